"""Faults of a soak: subscriptions that go wrong, and data that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.soak_faultbook import Book, drop_and_see

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.soak_scene import Scene

__all__ = ["BOOK"]

BOOK: Final = Book()

_SUBSCRIPTION_ERRORS: Final = (400, 410)  # those that are about one entry
_SESSION_ERRORS: Final = (400, 407, 500)
# Kinds of garbage that hold no readable event, and how many messages must be rejected of each.
_GARBAGE: Final = {
    "deep": 1,
    "empty": 1,
    "infinity": 1,
    "invalid_utf8": 1,
    "missing_fields": 3,
    "nan": 1,
    "not_an_array": 1,
    "text_frame": 1,
    "truncated": 1,
    "unknown_type": 1,
    "wrong_types": 2,
}


# --- subscriptions ---


@BOOK("partial acknowledgement")
def _partial(scene: Scene) -> None:
    scene.exchange.fault("partial_acknowledgement", [scene.some_symbol()])
    drop_and_see(scene)
    scene.pause(0.1, 0.8)


@BOOK("acknowledgement lost")
def _acknowledgement_lost(scene: Scene) -> None:
    scene.exchange.fault("lose_acknowledgement", times=scene.rng.randint(1, 3))
    drop_and_see(scene)
    scene.pause(0.1, 1.0)


@BOOK("subscription refused")
def _subscription_refused(scene: Scene) -> str:
    code = scene.rng.choice(_SUBSCRIPTION_ERRORS)
    scene.exchange.fault("refuse_subscription", code, symbols=[scene.some_symbol()])
    drop_and_see(scene)
    scene.pause(0.2, 0.6)
    scene.exchange.fault("clear")
    drop_and_see(scene)  # refused is refused until the next session
    return str(code)


@BOOK("subscriptions changed")
def _changed(scene: Scene) -> None:
    keys = scene.rng.sample(scene.bot.keys, 3)
    with scene.window("unsubscribed", keys):
        scene.unheard(keys)
        scene.bot.remove(keys)
        scene.pause(0.1, 0.8)
        scene.bot.register(keys)
        scene.expect(scene.bot.served)


@BOOK("subscriptions changed in an outage")
def _changed_in_outage(scene: Scene) -> None:
    keys = scene.rng.sample(scene.bot.keys, 3)
    with scene.window("unsubscribed", keys, reaches_back=True):
        scene.exchange.fault("refuse_connections")
        scene.drop(None)
        scene.expect(lambda: not scene.bot.manager.is_connected())
        scene.bot.remove(keys)
        scene.exchange.fault("clear")
        scene.pause(0.1, 1.0)
        scene.bot.register(keys)
        scene.expect(scene.bot.served)


# --- data ---


@BOOK("mute")
def _mute(scene: Scene) -> None:
    with scene.window("muted"):
        scene.exchange.fault("mute")
        scene.pause(0.5, 3.0)
        scene.exchange.fault("mute", False)


@BOOK("one symbol mute")
def _mute_symbol(scene: Scene) -> str:
    symbol = scene.some_symbol()
    with scene.window("muted", [key for key in scene.bot.keys if key[1] == symbol]):
        scene.exchange.fault("mute", symbols=[symbol])
        scene.pause(0.5, 3.0)
        scene.exchange.fault("mute", False)
    return symbol


@BOOK("delayed data")
def _delayed(scene: Scene) -> None:
    scene.exchange.fault("delay", scene.rng.uniform(0.2, 1.0))
    scene.pause(0.5, 1.5)
    scene.exchange.fault("delay", 0)


@BOOK("garbage frames")
def _garbage(scene: Scene) -> None:
    kinds = scene.rng.choices(tuple(_GARBAGE), k=scene.rng.randint(1, 10))
    rejects = sum(_GARBAGE[kind] for kind in kinds)
    _reject(scene, rejects, lambda: scene.exchange.send_garbage(kinds))
    scene.garbage += rejects


@BOOK("malformed messages")
def _malformed(scene: Scene) -> None:
    count = scene.rng.randint(1, 10)
    _reject(scene, count, lambda: scene.exchange.send_malformed(count))


@BOOK("error message")
def _error(scene: Scene) -> str:
    code = scene.rng.choice(_SESSION_ERRORS)
    scene.exchange.send_error(code)
    return str(code)


def _reject(scene: Scene, count: int, send: Callable[[], None]) -> None:
    """Have so many messages rejected; the session must be there until they are."""
    before = scene.bot.manager.status().rejected
    send()
    scene.expect(lambda: scene.bot.manager.status().rejected >= before + count)
