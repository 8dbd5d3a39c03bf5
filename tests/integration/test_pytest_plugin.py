"""The plugin as the tests of a bot use it, and what it costs those that do not."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "realtime_stream.pytest_plugin"


@pytest.fixture(autouse=True)
def only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the package is installed, and with which plugins beside, must not matter."""
    for name in (PLUGIN, "realtime_stream.providers.alpaca.adapter", "realtime_stream.simulator"):
        importlib.import_module(name)  # numpy bears no second import, and a run inside forgets
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_bot=textwrap.dedent(source))
    return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", "-q", *arguments)


BOT = """
    import threading

    from realtime_stream import ConnectionState

    QUOTE = {"T": "q", "S": "AAPL", "bp": 1.5, "bs": 100, "ap": 1.7, "as": 200, "t": 1}


    def test_quotes_arrive(alpaca_simulator, stream_manager):
        manager = stream_manager()
        manager.subscribe("quotes", "AAPL")
        assert manager.start() is ConnectionState.CONNECTED
        events = manager.events(timeout=5)
        alpaca_simulator.publish(QUOTE)
        assert next(events).symbol == "AAPL"
        manager.stop()


    def test_a_lost_connection_is_back_soon(alpaca_simulator, stream_manager):
        manager = stream_manager()
        back = threading.Event()
        manager.on_connect(lambda event: event.reconnect and back.set())
        manager.subscribe("quotes", "AAPL")
        manager.start()
        for _ in range(7):  # more failures in a row than the breaker allows by default
            back.clear()
            alpaca_simulator.drop()
            assert back.wait(5)


    def test_nothing_of_the_test_before_is_left(alpaca_simulator, stream_manager):
        assert alpaca_simulator.attempts == 0
        assert alpaca_simulator.faults.next_auth_refusal() is None
"""


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_the_fixtures_work_in_every_import_mode(pytester: pytest.Pytester, mode: str) -> None:
    run(pytester, BOT, f"--import-mode={mode}").assert_outcomes(passed=3)


def test_settings_and_arguments_reach_the_manager(pytester: pytest.Pytester) -> None:
    source = """
        from datetime import UTC, datetime

        import pytest

        from realtime_stream import AuthenticationError, FakeClock


        def test_crypto(alpaca_simulator, stream_manager):
            clock = FakeClock(datetime(2026, 1, 2, tzinfo=UTC))
            manager = stream_manager(
                market="crypto",
                feed="eu-1",
                watchlist=["BTC/USD"],
                inbox_capacity=10,
                manager={"data_clock": clock, "get_symbols": lambda: ["ETH/USD"]},
            )
            manager.start()
            assert {symbol for _, symbol in manager.status().acknowledged} == {"BTC/USD", "ETH/USD"}
            assert alpaca_simulator.sessions()[0].path == "/v1beta3/crypto/eu-1"
            events = manager.events(timeout=5)
            alpaca_simulator.publish(
                {"T": "b", "S": "BTC/USD", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "n": 1, "t": 0},
                market="crypto",
                feed="eu-1",
            )
            assert next(events).received_ns == clock.utc_now_ns()


        def test_keys_from_a_callable(stream_manager):
            asked = []

            def wrong():
                asked.append(1)
                return ("wrong", "keys")

            manager = stream_manager(credentials=wrong, watchlist=["AAPL"])
            with pytest.raises(AuthenticationError, match="402"):
                manager.start()
            assert asked


        def test_the_config_alone(alpaca_simulator, stream_manager):
            config = stream_manager.config(feed="sip", name="mine")
            assert (config.url, config.name) == (alpaca_simulator.url("stocks", "sip"), "mine")
            assert config.reconnect.jitter is False
    """
    run(pytester, source).assert_outcomes(passed=3)


def test_the_environment_of_the_developer_does_not_matter(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPACA_API_KEY", "a-real-key")
    monkeypatch.setenv("ALPACA_SECRET_KEY", "a-real-secret")
    monkeypatch.setenv("ALPACA_STREAM_URL", "wss://stream.example.invalid/v2/iex")
    monkeypatch.setenv("WATCHLIST_SYMBOLS", "TSLA")
    source = """
        def test_own_keys_and_address(stream_manager):
            manager = stream_manager()
            manager.subscribe("quotes", "AAPL")
            manager.start()
            assert {symbol for _, symbol in manager.status().acknowledged} == {"AAPL"}
    """
    run(pytester, source).assert_outcomes(passed=1)


def test_managers_are_stopped_even_if_the_test_fails(pytester: pytest.Pytester) -> None:
    source = """
        import threading

        made = []


        def test_fails(stream_manager):
            for name in ("one", "two"):
                made.append(stream_manager(name=name, watchlist=["AAPL"], feed="sip"))
                if name == "one":
                    made[0].start()
            assert False


        def test_nothing_runs_any_more():
            assert [manager.status().lifecycle.value for manager in made] == ["stopped"] * 2
            names = [thread.name for thread in threading.enumerate()]
            assert not [n for n in names if n.startswith(("realtime-stream/", "alpaca-simulator"))]
    """
    run(pytester, source).assert_outcomes(failed=1, passed=1)


def test_a_failure_that_the_bot_has_not_noticed_is_told(pytester: pytest.Pytester) -> None:
    source = """
        import threading

        import pytest

        from realtime_stream import StreamFailedError


        def fail(alpaca_simulator, manager):
            failed = threading.Event()
            manager.on_error(lambda event: event.fatal and failed.set())
            manager.subscribe("quotes", "AAPL")
            manager.start()
            alpaca_simulator.faults.refuse_auth(402)
            alpaca_simulator.drop()
            assert failed.wait(5)


        def test_not_noticed(alpaca_simulator, stream_manager):
            fail(alpaca_simulator, stream_manager())


        def test_not_noticed_twice(alpaca_simulator, stream_manager):
            fail(alpaca_simulator, stream_manager(feed="iex"))
            alpaca_simulator.faults.clear()
            fail(alpaca_simulator, stream_manager(feed="sip"))


        def test_noticed(alpaca_simulator, stream_manager):
            manager = stream_manager()
            fail(alpaca_simulator, manager)
            with pytest.raises(StreamFailedError):
                manager.latest_quote("AAPL")
    """
    result = run(pytester, source)
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines([
        "*ERROR at teardown of test_not_noticed *",
        "*StreamFailedError: the stream has failed: *402*",
        "*ERROR at teardown of test_not_noticed_twice *",
        "*ExceptionGroup: several managers did not stop well (2 sub-exceptions)*",
    ])


def test_a_callback_that_is_stuck_is_told(pytester: pytest.Pytester) -> None:
    source = """
        import threading

        import pytest

        from realtime_stream import RealTimeStreamManager

        entered, release = threading.Event(), threading.Event()


        @pytest.fixture(autouse=True)
        def impatient(monkeypatch):
            stop = RealTimeStreamManager.stop
            monkeypatch.setattr(RealTimeStreamManager, "stop", lambda self: stop(self, 0.2))


        def stuck(quote):
            entered.set()
            release.wait(10)


        def test_stuck(alpaca_simulator, stream_manager):
            manager = stream_manager()
            manager.on_quote(stuck, "AAPL")
            manager.start()
            alpaca_simulator.publish(
                {"T": "q", "S": "AAPL", "bp": 1, "bs": 1, "ap": 1, "as": 1, "t": 1}
            )
            assert entered.wait(5)


        def test_let_go():
            release.set()
    """
    result = run(pytester, source)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*StopTimeoutError: *callback *stuck is still running*"])


def test_the_fixtures_describe_themselves(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--fixtures")
    result.stdout.fnmatch_lines([
        "alpaca_simulator*",
        "*without faults*",
        "stream_manager*",
        "*stops them after the test*",
    ])


_COST = """
import json, sys, threading

def modules():
    return {name for name in sys.modules if not name.startswith(("encodings", "_pytest"))}

import pytest
import realtime_stream
before = modules()
import realtime_stream.pytest_plugin
added = sorted(modules() - before)
print(json.dumps({
    "added": added,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "ours": sorted(name for name in sys.modules if name.startswith("realtime_stream.")),
    "threads": len(threading.enumerate()),
}))
"""


def test_it_costs_nothing_until_a_fixture_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COST], stdout=subprocess.PIPE, timeout=30, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["added"] == [PLUGIN]
    assert not {"alpaca", "numpy", "pandas", "websocket", "websockets"} & set(seen["loaded"])
    assert not [name for name in seen["ours"] if name.startswith("realtime_stream.simulator")]
    assert not [
        name for name in seen["ours"] if name.startswith("realtime_stream.providers.alpaca")
    ]
    assert seen["threads"] == 1


def test_a_run_that_does_not_use_it_loads_no_more(pytester: pytest.Pytester) -> None:
    source = """
        import sys


        def test_without():
            assert "realtime_stream.pytest_plugin" in sys.modules
            assert not {"alpaca", "websockets", "realtime_stream.simulator"} & set(sys.modules)
    """
    pytester.makepyfile(textwrap.dedent(source))
    result = pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", "-q")
    result.assert_outcomes(passed=1)
