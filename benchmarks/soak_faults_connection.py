"""Faults of a soak: connections that end, and connections that do not come about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.soak_faultbook import Book, drop_and_see

if TYPE_CHECKING:
    from benchmarks.soak_scene import Scene

__all__ = ["BOOK"]

BOOK: Final = Book()

_CLOSE_CODES: Final = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4000)
_GREETINGS: Final = (b"", b"\xc1", b"\x00" * 64, b"\x91\x81\xa1T\xa5error", b"\xff" * 1000)
_STAGES: Final = ("http", "greeting", "auth", "subscription")


# --- connections that end ---


@BOOK("close")
def _close(scene: Scene) -> str:
    code = scene.rng.choice(_CLOSE_CODES)
    drop_and_see(scene, code)
    return str(code)


@BOOK("close again")
def _close_again(scene: Scene) -> str:
    drop_and_see(scene, code := scene.rng.choice(_CLOSE_CODES))
    return str(code)


@BOOK("TCP reset")
def _reset(scene: Scene) -> None:
    drop_and_see(scene)


@BOOK("TCP abort")
def _abort(scene: Scene) -> None:
    drop_and_see(scene, 1006)


@BOOK("storm of drops")
def _storm(scene: Scene) -> None:
    for _ in range(scene.rng.randint(3, 7)):
        scene.drop(scene.rng.choice((None, 1006, *_CLOSE_CODES)))
        scene.pause(0.05, 0.4)


@BOOK("dead peer")
def _dead_peer(scene: Scene) -> None:
    attempts = scene.exchange.seen().attempts
    scene.exchange.fault("stop_reading")
    scene.expect(lambda: scene.exchange.seen().attempts > attempts)


@BOOK("pings ignored")
def _pings_ignored(scene: Scene) -> None:
    attempts = scene.exchange.seen().attempts
    scene.exchange.fault("ignore_pings")
    scene.expect(lambda: scene.exchange.seen().attempts > attempts)


@BOOK("slow client")
def _slow_client(scene: Scene) -> None:
    scene.exchange.send_error(407)
    drop_and_see(scene, 1006)


# --- connections that do not come about ---


@BOOK("refused connections")
def _refused(scene: Scene) -> None:
    scene.exchange.fault("refuse_connections")
    scene.drop(None)
    scene.pause(0.3, 1.5)


@BOOK("HTTP 503")
def _unavailable(scene: Scene) -> None:
    scene.exchange.fault("refuse_http", 503, times=scene.rng.randint(1, 3))
    drop_and_see(scene, attempts=2)


@BOOK("HTTP 429")
def _too_many(scene: Scene) -> None:
    scene.exchange.fault("refuse_http", 429, retry_after=1, times=1)
    drop_and_see(scene)


@BOOK("connection limit 406")
def _connection_limit(scene: Scene) -> None:
    scene.exchange.fault("refuse_auth", 406, times=1)
    drop_and_see(scene)


@BOOK("silent at http")
def _silent_http(scene: Scene) -> None:
    _silent(scene, "http")


@BOOK("silent at greeting")
def _silent_greeting(scene: Scene) -> None:
    _silent(scene, "greeting")


@BOOK("silent at auth")
def _silent_auth(scene: Scene) -> None:
    _silent(scene, "auth")


@BOOK("silent at subscription")
def _silent_subscription(scene: Scene) -> None:
    _silent(scene, "subscription")


@BOOK("slow handshake")
def _slow_handshake(scene: Scene) -> str:
    stage = scene.rng.choice(_STAGES)
    scene.exchange.fault("delay_at", stage, scene.rng.uniform(0.1, 0.8))
    drop_and_see(scene)
    scene.pause(0.5, 1.5)
    return stage


@BOOK("requests read slowly")
def _read_slowly(scene: Scene) -> None:
    scene.exchange.fault("read_slowly", 500)
    drop_and_see(scene)
    scene.pause(0.5, 2.0)


@BOOK("connection slot held")
def _slot_held(scene: Scene) -> None:
    scene.exchange.fault("hold_slot", scene.rng.uniform(0.5, 3.0))
    drop_and_see(scene)


@BOOK("garbage greeting")
def _garbage_greeting(scene: Scene) -> None:
    scene.exchange.fault("garbage_greeting", scene.rng.choice(_GREETINGS))
    drop_and_see(scene)


def _silent(scene: Scene, stage: str) -> None:
    scene.exchange.fault("silent_at", stage)
    drop_and_see(scene)
    scene.pause(0.2, 2.0)
