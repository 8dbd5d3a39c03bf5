"""One manager, one simulator, and the threads that carry a script out."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from realtime_stream import (
    BreakerPolicy,
    RealTimeStreamManager,
    ReconnectPolicy,
    StreamingError,
)
from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from tests.abuse.callbacks import Calm, Registrations
from tests.abuse.crew import PATIENCE, Crew
from tests.abuse.scripts import ANCHOR
from tests.abuse.witness import Witness
from tests.support import bar, config, quote, trade

if TYPE_CHECKING:
    from realtime_stream.simulator import Fault, FaultScriptHandle
    from tests.abuse.scripts import Script

__all__ = ["NAME", "World"]

NAME: Final = "abused"
_LOGGER: Final = logging.getLogger("realtime_stream")
_SECOND_KEY: Final = ("SECOND-KEY", "second-secret")
_MAKERS: Final = {"quotes": quote, "trades": trade, "bars": bar}


class World:
    """What a script acts upon.

    Attributes:
        script: What is to happen.
        simulator: The server.
        calm: Whether user code still misbehaves.
        manager: What is tested.
        witness: What it says of itself.
        registrations: The callbacks of the script.
        crew: The threads that call it.
        published: Messages published so far.
        raw: Frames published so far that are no market data.
        symbols_answer: What ``get_symbols`` does.
        credentials_answer: What the credentials callable does.
        wrong: What the steps found to be wrong.
    """

    def __init__(self, script: Script) -> None:
        # Loaded here: the first start() would spend its timeout on it.
        importlib.import_module("realtime_stream.providers.alpaca.adapter")
        self.script = script
        self.simulator = AlpacaSimulator(
            credentials=dict([(SIMULATOR_KEY, SIMULATOR_SECRET), _SECOND_KEY])
        )
        self.simulator.start()
        self.calm = Calm()
        self.symbols_answer, self.credentials_answer = "one", "first"
        self._publishing = threading.Lock()  # guards the two below, and the order of publication
        self.published = 0
        self.raw = 0
        self._fault_scripts: list[FaultScriptHandle] = []
        self.manager = self._new_manager(script)
        self.witness = Witness(self.manager, NAME)
        self._level = _LOGGER.level
        _LOGGER.setLevel(logging.INFO)  # moves are INFO
        _LOGGER.addHandler(self.witness.log)
        self.registrations = Registrations(self.manager, self.calm)
        self.crew = Crew(script.workers)
        self.wrong: list[str] = []
        if script.anchored:
            self.manager.subscribe("trades", ANCHOR)

    def close(self) -> None:
        """Leave nothing behind, however it went."""
        self.heal()
        self.calm.begin(0)
        with contextlib.suppress(StreamingError):
            self.manager.stop()
        self.crew.dismiss()
        self.simulator.stop()
        _LOGGER.removeHandler(self.witness.log)
        _LOGGER.setLevel(self._level)

    def publish(self, messages: tuple[tuple[str, str], ...]) -> None:
        """Publish one frame of (channel, symbol); later messages have later times."""
        with self._publishing:
            first = self.published
            self.published += len(messages)
            self.simulator.publish(
                *(_MAKERS[kind](symbol, first + n) for n, (kind, symbol) in enumerate(messages))
            )

    def publish_raw(self, frame: bytes | str) -> None:
        with self._publishing:
            self.raw += 1
            self.simulator.publish_raw(frame)

    def play_faults(self, script: list[tuple[float, Fault]]) -> None:
        self._fault_scripts.append(self.simulator.play_faults(script))

    def heal(self) -> None:
        """No faults any more, now or later."""
        for each in self._fault_scripts:
            each.cancel()
        assert all(each.wait(PATIENCE) for each in self._fault_scripts)
        self.simulator.faults.clear()

    def _new_manager(self, script: Script) -> RealTimeStreamManager:
        settings: dict[str, Any] = {"inbox_capacity": 6} if script.small_inbox else {}
        if script.rotating:
            settings |= {"api_key": None, "secret_key": None, "credentials": self._credentials}
        return RealTimeStreamManager(
            config(
                self.simulator,
                name=NAME,
                reconnect=ReconnectPolicy(initial=0.01, maximum=0.05, jitter=False),
                breaker=BreakerPolicy(failure_threshold=script.failures, reset_timeout=0.05),
                stable_after=script.stable_after,
                connect_timeout=0.5,
                handshake_timeout=0.3,
                acknowledge_timeout=0.1,
                symbols_timeout=0.2,
                slow_callback=0.001,
                lag_alarm=0.05,
                error_log_interval=0.0,
                watchlist=script.watchlist,
                **settings,
            ),
            get_symbols=self._get_symbols if script.dynamic else None,
        )

    def _get_symbols(self) -> Any:
        with self.calm.acting() as allowed:
            return self._answer(self.symbols_answer if allowed else "one")

    def _answer(self, answer: str) -> Any:
        match answer:
            case "one" | "two":
                return ("DYN",) if answer == "one" else ("DYN", "DYN.B")
            case "none":
                return ()
            case "raises":
                msg = "a bad get_symbols"
                raise ZeroDivisionError(msg)
            case "blocks":
                self.calm.block()
            case "starts":
                self.registrations.must_refuse("start()", self.manager.start)
            case "stops":
                self.manager.stop()
        return "nonsense"

    def _credentials(self) -> Any:
        with self.calm.acting() as allowed:
            answer = self.credentials_answer if allowed else "first"
            if answer == "raises":
                msg = "a bad credentials callable"
                raise ZeroDivisionError(msg)
            if answer == "blocks":
                self.calm.block()
            return {"second": _SECOND_KEY, "nonsense": None, "wrong": ("WRONG", "wrong")}.get(
                answer, (SIMULATOR_KEY, SIMULATOR_SECRET)
            )
