"""Faults of a soak: callbacks that are slow or fail, and a bot that stops and starts."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from benchmarks.soak_faultbook import Book

if TYPE_CHECKING:
    from benchmarks.soak_scene import Scene

__all__ = ["BOOK"]

BOOK: Final = Book()

_BLOCKED: Final = 60.0  # seconds after which a blocked callback goes on whatever happens


@BOOK("slow callback")
def _slow(scene: Scene) -> None:
    seconds = scene.rng.uniform(0.2, 1.0)
    with scene.window("behind"):
        scene.catch_up()
        done = threading.Event()

        def trouble() -> None:
            if not done.is_set():
                done.set()
                time.sleep(seconds)  # this is the fault

        scene.bot.trouble = trouble
        scene.expect(done.is_set)
        scene.bot.trouble = None
        scene.catch_up()


@BOOK("full inbox")
def _full_inbox(scene: Scene) -> None:
    def dropped() -> int:
        return sum(scene.bot.manager.status().dropped.values())

    with scene.window("behind"):
        scene.catch_up()  # so that all that is dropped was sent within the window
        before, release = dropped(), threading.Event()

        def trouble() -> None:
            release.wait(_BLOCKED)

        scene.bot.trouble = trouble
        scene.expect(lambda: dropped() > before)
        scene.bot.trouble = None
        release.set()
        scene.catch_up()


@BOOK("raising callback")
def _raising(scene: Scene) -> None:
    def trouble() -> None:
        msg = "a bug of the bot"
        raise LookupError(msg)

    scene.bot.trouble = trouble
    scene.pause(0.1, 0.4)


@BOOK("stop and start")
def _stop_and_start(scene: Scene) -> None:
    scene.stop()
    scene.pause(0.0, 0.5)
    scene.start()


@BOOK("stop in an outage")
def _stop_in_outage(scene: Scene) -> None:
    scene.exchange.fault("refuse_connections")
    scene.drop(None)
    scene.pause(0.1, 1.0)
    scene.stop()
    scene.exchange.fault("clear")
    scene.start()


@BOOK("stop behind a slow callback")
def _stop_behind(scene: Scene) -> None:
    _fall_behind(scene)
    scene.stop(timeout=1.0)
    scene.bot.trouble = None
    scene.start()


@BOOK("restart")
def _restart(scene: Scene) -> None:
    scene.restart()


@BOOK("restart behind a slow callback")
def _restart_behind(scene: Scene) -> None:
    _fall_behind(scene)
    scene.restart(timeout=3.0)


def _fall_behind(scene: Scene) -> None:
    """Let events wait: more than are delivered in the time that a stop leaves for it."""
    scene.bot.trouble = lambda: time.sleep(0.01)  # each call, so that delivery goes on slowly
    scene.expect(lambda: scene.bot.manager.status().in_inbox > 200)  # noqa: PLR2004  # two seconds of work
