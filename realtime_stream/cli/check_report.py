"""What the checks found: one line each, or one JSON object; never a piece of a key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec
import typer

from realtime_stream.cli.check_problems import MEANINGS, CheckFailedError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["CHECKS", "CheckSkippedError", "Finding", "Report", "masked"]

T = TypeVar("T")

_PIECE: Final = 6  # characters of a key in a row that must not be seen

# Every check in its order, with those it makes no sense without.
CHECKS: Final[dict[str, tuple[str, ...]]] = {
    "versions": (),
    "configuration": (),
    "keys": ("configuration",),
    "sdk": ("versions", "configuration"),
    "name": ("configuration",),
    "network": ("name",),
    "tls": ("network",),
    "upgrade": ("tls",),
    "clock": ("tls",),
    "authentication": ("sdk", "keys", "upgrade"),
    "feed": ("authentication",),
    "subscription": ("feed",),
    "data": ("subscription",),
}


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding(Generic[T]):
    """A check that did not fail.

    Attributes:
        text: What it found, in words.
        value: What later checks need of it.
        warning: What is not as it should be, although the bot would work.
    """

    text: str
    value: T
    warning: Problem = Problem.NONE


class CheckSkippedError(Exception):
    """There was nothing to look at; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """One check in the report; ``exit_code`` is 0 unless the state is a warning or a failure."""

    name: str
    state: State
    text: str
    exit_code: int


def masked(text: str, secrets: Iterable[str]) -> str:
    """``text`` with asterisks for whatever it shows of a secret, if six characters in a row."""
    hidden: set[int] = set()
    for secret in secrets:
        for start in range(len(secret) - _PIECE + 1):
            piece = secret[start : start + _PIECE]
            found = text.find(piece)
            while found >= 0:
                hidden.update(range(found, found + _PIECE))
                found = text.find(piece, found + 1)
    return "".join("*" if place in hidden else character for place, character in enumerate(text))


class Report:
    """Carries checks out and keeps what they found. Used by one thread."""

    def __init__(self, *, as_json: bool) -> None:
        """Nothing checked yet.

        Args:
            as_json: Print one object at the end, instead of a line with each check.
        """
        self._as_json = as_json
        self._secrets: tuple[str, ...] = ()
        self._lines: dict[str, Line] = {}

    def hide(self, *secrets: str) -> None:
        """Never print six characters in a row of these."""
        self._secrets = (*self._secrets, *secrets)

    def run(self, name: str, check: Callable[[], Finding[T]]) -> T | None:
        """Carry out a check, unless one that it needs has failed.

        Returns:
            The value of its finding; ``None`` if it failed or was skipped.
        """
        missing = self._missing(name)
        if missing:
            self._add(name, State.SKIPPED, f"needs {missing[0]}")
            return None
        try:
            finding = check()
        except CheckFailedError as exc:
            self._add(name, State.FAILED, str(exc), exc.problem)
            return None
        except CheckSkippedError as exc:
            self._add(name, State.SKIPPED, str(exc))
            return None
        state = State.OK if finding.warning is Problem.NONE else State.WARNING
        self._add(name, state, finding.text, finding.warning)
        return finding.value

    @property
    def problem(self) -> Problem:
        """The first failure; if nothing failed, the first warning."""
        for state in (State.FAILED, State.WARNING):
            for line in self._lines.values():
                if line.state is state:
                    return Problem(line.exit_code)
        return Problem.NONE

    def finish(self) -> int:
        """Report what was left out as skipped, print what sums it up, return the exit code."""
        for name in CHECKS:
            if name not in self._lines:
                self._add(name, State.SKIPPED, f"needs {self._missing(name)[0]}")
        problem = self.problem
        if self._as_json:
            found = {
                "ok": problem is Problem.NONE,
                "exit_code": problem.value,
                "checks": list(self._lines.values()),
            }
            typer.echo(msgspec.json.encode(found))
        else:
            typer.echo(f"exit code {problem.value}: {MEANINGS[problem]}")
        return problem.value

    def _missing(self, name: str) -> list[str]:
        """The checks that this one needs and that have not passed."""
        passed = {n for n, line in self._lines.items() if line.state in {State.OK, State.WARNING}}
        return [need for need in CHECKS[name] if need not in passed]

    def _add(self, name: str, state: State, text: str, problem: Problem = Problem.NONE) -> None:
        line = Line(name, state, masked(text, self._secrets), problem.value)
        self._lines[name] = line
        if not self._as_json:
            typer.echo(f"{state:8} {name:15} {line.text}")
