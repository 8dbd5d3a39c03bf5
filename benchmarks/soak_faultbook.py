"""What the faults of a soak have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.soak_scene import Scene

__all__ = ["Book", "Fault", "drop_and_see"]

# Does the fault and returns when it is done; tells which variant it was, if there are several.
# What it did to the exchange is taken back afterwards, by ``Scene.recover``.
Fault: TypeAlias = "Callable[[Scene], str | None]"


class Book:
    """Collects faults by name.

    Attributes:
        faults: Those collected so far.
    """

    def __init__(self) -> None:
        """Empty."""
        self.faults: dict[str, Fault] = {}

    def __call__(self, name: str) -> Callable[[Fault], Fault]:
        """A decorator that enters a function under this name."""

        def enter(function: Fault) -> Fault:
            self.faults[name] = function
            return function

        return enter


def drop_and_see(scene: Scene, code: int | None = None, *, attempts: int = 1) -> None:
    """Drop the connection; wait until the bot has tried so often to come back."""
    before = scene.exchange.seen().attempts
    scene.drop(code)
    scene.expect(lambda: scene.exchange.seen().attempts >= before + attempts)
    scene.pause(0.05)  # for the attempt to meet the fault
