"""Faults as values, and scripts of them: what is to go wrong when."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.simulator.closing import check_close
from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.garbage import check_garbage
from realtime_stream.simulator.handshake_faults import HandshakeFaults
from realtime_stream.simulator.rest_faults import RestFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["SWITCHES", "Fault", "check_script", "fault"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; made by :func:`fault`.

    Attributes:
        name: Name of the method that does it.
        arguments: Its arguments by name.
    """

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        """As one would call it."""
        shown = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.name}({shown})"


def fault(name: str, /, **arguments: Any) -> Fault:
    """A fault for a script.

    Args:
        name: Name of a method of :class:`~realtime_stream.simulator.Faults` that switches a fault
            on or off, or "drop", "send_error" or "send_garbage", which are the simulator's.
        arguments: Arguments of that method.

    Raises:
        ValueError: There is no such fault, or it cannot have such arguments.
    """
    if name not in _CHECKS:
        msg = f"unknown fault {name!r}; allowed are {', '.join(_CHECKS)}"
        raise ValueError(msg)
    check = _CHECKS[name]
    signature = inspect.signature(check)
    try:
        signature.bind(**arguments)
    except TypeError as exc:
        msg = f"{name}: {exc}; its arguments are {', '.join(signature.parameters) or 'none'}"
        raise ValueError(msg) from exc
    try:
        check(**arguments)
    except (TypeError, ValueError) as exc:
        msg = f"{name}: {exc}"
        raise ValueError(msg) from exc
    return Fault(name, MappingProxyType(dict(arguments)))


def check_script(script: Iterable[tuple[float, object]]) -> list[tuple[float, Fault]]:
    """The script in the order of its times.

    Raises:
        ValueError: A time is negative or not finite.
        TypeError: Something in it is not a fault.
    """
    checked: list[tuple[float, Fault]] = []
    for seconds, each in script:
        if not isinstance(each, Fault):
            msg = f"a script consists of seconds and faults, not {each!r}"
            raise TypeError(msg)
        if not 0 <= seconds < math.inf:
            msg = f"a fault cannot come at {seconds!r} s"
            raise ValueError(msg)
        checked.append((seconds, each))
    return sorted(checked, key=lambda pair: pair[0])


def _drop(code: int | None = 1000, reason: str = "") -> None:
    check_close(code, reason)


def _send_error(code: int, message: str | None = None) -> None:
    """Any code may be sent."""


def _send_garbage(kind: str) -> None:
    check_garbage(kind)


# Faults that nobody acts upon are the judges of their arguments.
_scratch: Final = Faults()
SWITCHES: Final = frozenset(
    name
    for owner in (HandshakeFaults, RestFaults, Faults)
    for name in vars(owner)
    if not name.startswith("_")
)
_CHECKS: Final[Mapping[str, Callable[..., None]]] = {
    **{name: getattr(_scratch, name) for name in sorted(SWITCHES)},
    "drop": _drop,
    "send_error": _send_error,
    "send_garbage": _send_garbage,
}
