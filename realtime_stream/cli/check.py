"""``realtime-stream check``: what is right or wrong with a setup, one line for each thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import typer

from realtime_stream.cli.check_budget import Budget
from realtime_stream.cli.check_network import Probe
from realtime_stream.cli.check_problems import MEANINGS
from realtime_stream.cli.check_report import Report
from realtime_stream.cli.check_session import SessionChecks
from realtime_stream.cli.check_setup import configured, keys_present, sdk_works, url_of, versions
from realtime_stream.clock import SystemClock
from realtime_stream.config import StreamConfig
from realtime_stream.errors import ConfigurationError
from realtime_stream.resilience.backoff import ReconnectPolicy

__all__ = ["EXIT_CODES", "CheckOptions", "run_check"]

EXIT_CODES: Final = "Exit codes: " + "; ".join(
    f"{problem.value} {meaning}" for problem, meaning in MEANINGS.items()
)

_INTERRUPTED: Final = 130
_REQUESTS: Final = 4  # a subscription is asked for once, and again three times


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check, how patiently, and how to print it.

    Attributes:
        given: Settings for :class:`~realtime_stream.StreamConfig`; the rest is the environment's.
        step: Seconds that each step over the network may take.
        as_json: Print one JSON object.
    """

    given: dict[str, Any]
    step: float
    as_json: bool


def run_check(options: CheckOptions) -> int:
    """Carry out every check that makes sense, and print what they find.

    Returns:
        The exit code; see :class:`~realtime_stream.cli.check_problems.Problem`.
    """
    report = Report(as_json=options.as_json)
    try:
        _carry_out(options, report)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        return _INTERRUPTED
    return report.finish()


def _carry_out(options: CheckOptions, report: Report) -> None:
    """Every check in its order; what is left out here is reported as skipped."""
    _hide_keys(report)
    report.run("versions", versions)
    settings = {**options.given, **_patience(options.step)}
    config = report.run("configuration", lambda: configured(settings))
    if config is None:
        return
    report.run("keys", lambda: keys_present(config))
    tapped = report.run("sdk", sdk_works)
    clock = SystemClock()
    budget = Budget(clock, options.step)
    with Probe(url_of(config), budget, clock) as probe:
        report.run("name", probe.resolve)
        report.run("network", probe.connect)
        report.run("tls", probe.secure)
        report.run("upgrade", probe.upgrade)
        report.run("clock", probe.clock)
    session = SessionChecks(config, budget, tapped=bool(tapped))
    report.run("authentication", session.authentication)
    report.run("feed", session.feed)
    report.run("subscription", session.subscription)
    report.run("data", session.data)


def _patience(step: float) -> dict[str, Any]:
    """Settings that make the session of the check one attempt with short waits."""
    return {
        "name": "check",
        "reconnect": ReconnectPolicy(max_attempts=1),
        "connect_timeout": step,
        "handshake_timeout": step,
        "acknowledge_timeout": step / _REQUESTS,
    }


def _hide_keys(report: Report) -> None:
    """Never print a piece of the keys, not even where a user or a server mixes them up."""
    try:
        config = StreamConfig(url="ws://localhost", watchlist=())
    except ConfigurationError:  # it is the keys that are not acceptable; no error shows them
        return
    keys = (config.api_key, config.secret_key)
    report.hide(*(key.get_secret_value() for key in keys if key is not None))
