"""What a benchmark says at its end: where it ran, a table, and the ratios last."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from realtime_stream import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Ratio", "environment", "percentile", "print_environment", "summary", "table"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of this library divided by the same of another client.

    Attributes:
        what: What is compared.
        value: The ratio of the two medians.
        at_least: What the project holds itself to, where more is better.
        at_most: The same, where less is better.
    """

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words; empty without one."""
        if self.at_least is not None:
            return f"at least {self.at_least:.3g}"
        return "" if self.at_most is None else f"at most {self.at_most:.3g}"

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; ``None`` without one."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def row(self) -> tuple[str, str, str]:
        """One line of the table of ratios."""
        verdict = {True: "met", False: "NOT met", None: ""}[self.met]
        return self.what, f"{self.value:.2f}", ", ".join(filter(None, (self.bound, verdict)))

    def as_json(self) -> dict[str, Any]:
        """The ratio for ``--json``."""
        return {"what": self.what, "value": self.value, "bound": self.bound, "met": self.met}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """The median, and the value of each run in order."""
    return {"median": statistics.median(values), "runs": list(values)}


def percentile(values: Sequence[int], share: float) -> int:
    """The value below which ``share`` (0 to 1) of the others lie; no interpolation."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def environment() -> dict[str, Any]:
    """Machine and versions, without which figures say little."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {"realtime-stream": __version__}
        | {name: metadata.version(name) for name in ("alpaca-py", "msgspec", "websockets")},
    }


def print_environment() -> None:
    """:func:`environment` in one line."""
    where = environment()
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    print(f"Python {where['python']}, {where['system']}, {where['cores']} cores, {versions}\n")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text: the first to the left, the others to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
