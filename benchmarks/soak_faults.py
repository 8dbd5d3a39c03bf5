"""Everything that goes wrong in a soak, by name; each returns when it has been done.

What a fault does to the exchange is taken back by the caller (``Scene.recover``).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from benchmarks.soak_scene import Scene

    Fault = Callable[[Scene], str | None]

__all__ = ["FAULTS", "QUICK", "deck"]

FAULTS: Final[dict[str, Fault]] = {}

# What a short soak begins with: no waits that a server asks for, none that are for a deadline.
QUICK: Final = (
    "close",
    "TCP reset",
    "TCP abort",
    "refused connections",
    "HTTP 503",
    "mute",
    "garbage frames",
    "malformed messages",
    "full inbox",
    "stop and start",
    "restart",
    "subscriptions changed",
    "partial acknowledgement",
    "raising callback",
)

_CLOSE_CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4000)
_SUBSCRIPTION_ERRORS: Final = (400, 405, 410)
_SESSION_ERRORS: Final = (400, 407, 500)
_GREETINGS: Final = (b"", b"\xc1", b"\x00" * 64, b"\x91\x81\xa1T\xa5error", b"\xff" * 1000)
_GARBAGE: Final[tuple[bytes | str, ...]] = (
    b"\xc1",
    b"\xff\xfe\xfd",
    b"\x91",  # an array that ends too early
    b"\x81\xa1T\xa1q",  # no array around it
    b"\x92\x81\xa1T\xa1q",
    b"\x91" * 3000,  # nested deeper than anything means
    "half a frame of text",
)
_DEADLINE: Final = 10.0  # seconds for something that must happen


def deck(rng: random.Random, *, quick: bool) -> Iterator[str]:
    """Names of faults without end: all of them in random order, then all again.

    Args:
        rng: Draws the order.
        quick: Begin with those that take little real time.
    """
    first = list(QUICK)
    rng.shuffle(first)
    if quick:
        yield from first
    while True:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names


def _fault(name: str) -> Callable[[Fault], Fault]:
    def enter(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return enter


# --- connections that end ---


@_fault("close")
def _close(scene: Scene) -> str:
    code = scene.rng.choice(_CLOSE_CODES)
    scene.drop(code)
    return str(code)


@_fault("close again")
def _close_again(scene: Scene) -> str:
    return _close(scene)


@_fault("TCP reset")
def _reset(scene: Scene) -> None:
    scene.drop(None)


@_fault("TCP abort")
def _abort(scene: Scene) -> None:
    scene.drop(1006)


@_fault("storm of drops")
def _storm(scene: Scene) -> None:
    for _ in range(scene.rng.randint(3, 7)):
        scene.drop(scene.rng.choice((None, 1006, *_CLOSE_CODES)))
        scene.pause(0.05, 0.4)


@_fault("dead peer")
def _dead_peer(scene: Scene) -> None:
    attempts = scene.exchange.seen().attempts
    scene.exchange.fault("stop_reading")
    scene.until(lambda: scene.exchange.seen().attempts > attempts, _DEADLINE)


@_fault("slow client")
def _slow_client(scene: Scene) -> None:
    scene.exchange.send_error(407)
    scene.drop(1006)


# --- connections that do not come about ---


@_fault("refused connections")
def _refused(scene: Scene) -> None:
    scene.exchange.fault("refuse_connections")
    scene.drop(None)
    scene.pause(0.3, 1.5)


@_fault("HTTP 503")
def _unavailable(scene: Scene) -> None:
    scene.exchange.fault("refuse_http", 503, times=scene.rng.randint(1, 3))
    _drop_and_see(scene, attempts=2)


@_fault("HTTP 429")
def _too_many(scene: Scene) -> None:
    scene.exchange.fault("refuse_http", 429, retry_after=1, times=1)
    _drop_and_see(scene, attempts=1)


@_fault("connection limit 406")
def _connection_limit(scene: Scene) -> None:
    scene.exchange.fault("refuse_auth", 406, times=1)
    _drop_and_see(scene, attempts=1)


@_fault("silent at http")
def _silent_http(scene: Scene) -> None:
    _silent(scene, "http")


@_fault("silent at greeting")
def _silent_greeting(scene: Scene) -> None:
    _silent(scene, "greeting")


@_fault("silent at auth")
def _silent_auth(scene: Scene) -> None:
    _silent(scene, "auth")


@_fault("silent at subscription")
def _silent_subscription(scene: Scene) -> None:
    _silent(scene, "subscription")


@_fault("garbage greeting")
def _garbage_greeting(scene: Scene) -> None:
    scene.exchange.fault("garbage_greeting", scene.rng.choice(_GREETINGS))
    _drop_and_see(scene, attempts=1)


# --- subscriptions ---


@_fault("partial acknowledgement")
def _partial(scene: Scene) -> None:
    scene.exchange.fault("partial_acknowledgement", [scene.some_symbol()])
    _drop_and_see(scene, attempts=1)
    scene.pause(0.1, 0.8)


@_fault("subscription refused")
def _subscription_refused(scene: Scene) -> str:
    code = scene.rng.choice(_SUBSCRIPTION_ERRORS)
    scene.exchange.fault("refuse_subscription", code, symbols=[scene.some_symbol()])
    _drop_and_see(scene, attempts=1)
    scene.pause(0.2, 0.6)
    scene.exchange.fault("clear")
    scene.drop(None)  # refused is refused until the next session
    return str(code)


@_fault("subscriptions changed")
def _changed(scene: Scene) -> None:
    keys = scene.rng.sample(scene.bot.keys, 3)
    with scene.window("unsubscribed", keys):
        scene.bot.remove(keys)
        scene.pause(0.1, 0.8)
        scene.bot.register(keys)
        scene.until(scene.bot.served, _DEADLINE)


@_fault("subscriptions changed in an outage")
def _changed_in_outage(scene: Scene) -> None:
    keys = scene.rng.sample(scene.bot.keys, 3)
    with scene.window("unsubscribed", keys, reaches_back=True):
        scene.exchange.fault("refuse_connections")
        scene.drop(None)
        scene.until(lambda: not scene.bot.manager.is_connected(), _DEADLINE)
        scene.bot.remove(keys)
        scene.exchange.fault("clear")
        scene.pause(0.1, 1.0)
        scene.bot.register(keys)
        scene.until(scene.bot.served, _DEADLINE)


# --- data ---


@_fault("mute")
def _mute(scene: Scene) -> None:
    with scene.window("muted"):
        scene.exchange.fault("mute")
        scene.pause(0.5, 3.0)
        scene.exchange.fault("mute", False)


@_fault("garbage frames")
def _garbage(scene: Scene) -> None:
    frames = [scene.rng.choice(_GARBAGE) for _ in range(scene.rng.randint(1, 10))]
    _reject(scene, len(frames), lambda: scene.exchange.send_raw(*frames))
    scene.garbage += len(frames)


@_fault("malformed messages")
def _malformed(scene: Scene) -> None:
    count = scene.rng.randint(1, 10)
    _reject(scene, count, lambda: scene.exchange.send_malformed(count))


@_fault("error message")
def _error(scene: Scene) -> str:
    code = scene.rng.choice(_SESSION_ERRORS)
    scene.exchange.send_error(code)
    return str(code)


# --- the bot itself ---


@_fault("slow callback")
def _slow(scene: Scene) -> None:
    seconds = scene.rng.uniform(0.2, 1.0)
    with scene.window("behind"):
        done = threading.Event()

        def trouble() -> None:
            if not done.is_set():
                done.set()
                time.sleep(seconds)  # this is the fault

        scene.bot.trouble = trouble
        scene.until(done.is_set, _DEADLINE)
        scene.bot.trouble = None
        scene.catch_up()


@_fault("full inbox")
def _full_inbox(scene: Scene) -> None:
    def dropped() -> int:
        return sum(scene.bot.manager.status().dropped.values())

    scene.catch_up()
    with scene.window("behind"):
        before, release = dropped(), threading.Event()
        scene.bot.trouble = lambda: None if release.wait(_DEADLINE) else release.set()
        scene.until(lambda: dropped() > before, _DEADLINE)
        scene.bot.trouble = None
        release.set()
        scene.catch_up()


@_fault("raising callback")
def _raising(scene: Scene) -> None:
    def trouble() -> None:
        msg = "a bug of the bot"
        raise LookupError(msg)

    scene.bot.trouble = trouble
    scene.pause(0.1, 0.4)


@_fault("stop and start")
def _stop_and_start(scene: Scene) -> None:
    scene.stop()
    scene.pause(0.0, 0.5)
    scene.start()


@_fault("stop in an outage")
def _stop_in_outage(scene: Scene) -> None:
    scene.exchange.fault("refuse_connections")
    scene.drop(None)
    scene.pause(0.1, 1.0)
    scene.stop()
    scene.exchange.fault("clear")
    scene.start()


@_fault("stop behind a slow callback")
def _stop_behind(scene: Scene) -> None:
    _fall_behind(scene)
    scene.stop(timeout=1.0)
    scene.bot.trouble = None
    scene.start()


@_fault("restart")
def _restart(scene: Scene) -> None:
    scene.restart()


@_fault("restart behind a slow callback")
def _restart_behind(scene: Scene) -> None:
    _fall_behind(scene)
    scene.restart(timeout=3.0)


# --- what several of them do ---


def _drop_and_see(scene: Scene, *, attempts: int) -> None:
    """Drop the connection; wait until the bot has tried so often to come back."""
    before = scene.exchange.seen().attempts
    scene.drop(None)
    scene.until(lambda: scene.exchange.seen().attempts >= before + attempts, _DEADLINE)
    scene.pause(0.05)


def _silent(scene: Scene, stage: str) -> None:
    scene.exchange.fault("silent_at", stage)
    _drop_and_see(scene, attempts=1)
    scene.pause(0.2, 2.0)


def _reject(scene: Scene, count: int, send: Callable[[], None]) -> None:
    """Have so many messages rejected; the session must be there until they are."""
    before = scene.bot.manager.status().rejected
    send()
    scene.until(lambda: scene.bot.manager.status().rejected >= before + count, _DEADLINE)


def _fall_behind(scene: Scene) -> None:
    """Let events wait: more than are delivered in the time that a stop leaves for it."""
    scene.bot.trouble = lambda: time.sleep(0.01)  # each call, so that delivery goes on slowly
    scene.until(lambda: scene.bot.manager.status().in_inbox > 200, _DEADLINE)  # noqa: PLR2004  # two seconds of work
