"""What a script is, and how scripts are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from hypothesis import assume
from hypothesis import strategies as st

__all__ = ["ANCHOR", "BEHAVIOURS", "EVENT_KINDS", "LISTENER_KINDS", "SYMBOLS", "Script", "Step"]
__all__ += ["CREDENTIALS", "GET_SYMBOLS", "scripts"]

SYMBOLS: Final = ("AAPL", "MSFT")
ANCHOR: Final = "SPY"  # wanted from before the first start to the end, in scripts that have it
EVENT_KINDS: Final = ("quotes", "trades", "bars")
LISTENER_KINDS: Final = ("connect", "disconnect", "gap", "error", "state_change")

BEHAVIOURS: Final = (
    "good",
    "raises",
    "slow",
    "blocks",
    "exits",
    "registers",
    "removes_itself",
    "removes_another",
    "subscribes",
    "unsubscribes",
    "looks",
    "stops",
    "starts",
    "restarts",
    "waits",
    "iterates",
)
GET_SYMBOLS: Final = ("one", "two", "none", "raises", "nonsense", "blocks", "starts", "stops")
CREDENTIALS: Final = ("first", "second", "raises", "nonsense", "wrong", "blocks")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one worker does: the name of a method of ``World``, and its arguments.

    ``worker`` is ``None`` for what the script's own thread does.
    """

    worker: int | None
    action: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that is decided about one run of the machine; its repr can be pasted.

    Attributes:
        steps: What happens, in the order in which it is handed to the workers.
        workers: How many there are.
        anchored: Whether one key is wanted all the time, whose accounts are then exact.
        small_inbox: Whether the inbox holds so little that it overflows.
        stable_after: Seconds until a session counts as a success.
        failures: How many of them open the breaker.
        dynamic: Whether there is a ``get_symbols``.
        rotating: Whether the credentials are a callable.
        watchlist: Symbols of registrations without any.
        keeps: Whether it ends with ``restart()`` instead of ``stop()`` and ``start()``.
        hectic: Whether the interpreter changes threads as often as it can.
    """

    steps: tuple[Step, ...]
    workers: int = 2
    anchored: bool = True
    small_inbox: bool = False
    stable_after: float = 0.02
    failures: int = 1000
    dynamic: bool = False
    rotating: bool = False
    watchlist: tuple[str, ...] = ()
    keeps: bool = True
    hectic: bool = False


_timeouts: Final = st.sampled_from((0, 0.01, 0.1, 0.4))
_short: Final = st.sampled_from((0, 0.01, 0.05))
_symbols: Final = st.sampled_from(SYMBOLS)
_kinds: Final = st.sampled_from(EVENT_KINDS)
_some: Final = st.sampled_from((("*",), (*SYMBOLS, ANCHOR), SYMBOLS, (ANCHOR,), ("AAPL",), ()))
_behaviours: Final = st.one_of(st.just("good"), st.sampled_from(BEHAVIOURS))
_messages: Final = st.lists(
    st.tuples(_kinds, st.sampled_from((*SYMBOLS, ANCHOR, ANCHOR))), min_size=2, max_size=6
).map(tuple)
_times: Final = st.sampled_from((1, 2, None))
_close_codes: Final = st.sampled_from((1000, 1001, 1006, 1006, 1008, 1011, None))
_STAGES: Final = ("http", "greeting", "auth", "subscription")

_LIFECYCLE: Final[dict[str, tuple[st.SearchStrategy[Any], ...]]] = {
    "start": (_timeouts,),
    "stop": (_timeouts,),
    "restart": (_timeouts,),
    "wait_until_connected": (_short,),
    "wait_until_stopped": (_short,),
    "look": (),
    "iterate": (_short,),
}
_WANTS: Final[dict[str, tuple[st.SearchStrategy[Any], ...]]] = {
    "listen": (st.sampled_from(LISTENER_KINDS), _behaviours),
    "remove": (st.integers(0, 9),),
    "subscribe": (_kinds, _symbols),
    "unsubscribe": (_kinds, _symbols),
    "answer_symbols": (st.sampled_from(GET_SYMBOLS),),
    "answer_credentials": (st.sampled_from(CREDENTIALS),),
}
_FAULTS: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "refuse_connections": {"on": st.booleans()},
    "refuse_http": {
        "status": st.sampled_from((404, 429, 503)),
        "retry_after": st.just(0),
        "times": _times,
    },
    "refuse_auth": {"code": st.sampled_from((404, 406, 500)), "times": _times},
    "mute": {"on": st.booleans()},
    "silent_at": {"stage": st.sampled_from((*_STAGES, None))},
    "delay_at": {"stage": st.sampled_from(_STAGES), "seconds": _short},
    "error_at": {
        "stage": st.sampled_from(("greeting", "auth", "subscription", "data")),
        "code": st.sampled_from((400, 405, 406, 407, 410, 500)),
    },
    "partial_acknowledgement": {"symbols": _symbols.map(lambda symbol: (symbol,))},
    "lose_acknowledgement": {"times": _times},
    "refuse_subscription": {
        "code": st.sampled_from((400, 405, 410)),
        "symbols": _symbols.map(lambda symbol: (symbol,)),
        "times": _times,
    },
    "stop_reading": {"on": st.booleans()},
    "read_slowly": {"bytes_per_second": st.sampled_from((1000.0, None))},
    "delay": {"seconds": _short},
    "ignore_pings": {"on": st.booleans()},
    "hold_slot": {"seconds": _short},
}
_any_fault: Final = st.one_of([
    st.tuples(st.just(name), st.fixed_dictionaries(arguments))
    for name, arguments in _FAULTS.items()
])
_timed_fault: Final = st.builds(
    lambda seconds, named: (seconds, *named),
    st.sampled_from((0.0, 0.01, 0.02, 0.05)),
    st.one_of(_any_fault, st.just(("clear", {})), st.just(("drop", {"code": 1006}))),
)


def _steps(actions: dict[str, tuple[st.SearchStrategy[Any], ...]]) -> st.SearchStrategy[Step]:
    return st.one_of([
        st.builds(Step, st.integers(0, 3), st.just(name), st.tuples(*arguments))
        for name, arguments in actions.items()
    ])


def _scene(*steps: st.SearchStrategy[Step]) -> st.SearchStrategy[tuple[Step, ...]]:
    """One worker does these, one after the other."""
    return st.builds(
        lambda worker, drawn: tuple(replace(step, worker=worker) for step in drawn),
        st.integers(0, 3),
        st.tuples(*steps),
    )


_pauses: Final = st.tuples(st.sampled_from((0.001, 0.01, 0.03)))
_publish: Final = _steps({"publish": (_messages, st.integers(1, 4))})
_register: Final = _steps({"register": (_kinds, _behaviours, _some)})
_begin: Final = _steps({"start": (st.just(0.4),)})
_settle: Final = _steps({"settle": ()})
_heal: Final = _steps({"fault": (st.just("clear"), st.just({}))})
_faults: Final = _steps({
    "garbage": (st.integers(0, 7),),
    "send_error": (st.sampled_from((400, 405, 406, 407, 410, 500)),),
    "play_faults": (st.lists(_timed_fault, min_size=1, max_size=4).map(tuple),),
})
_fault: Final = st.builds(Step, st.integers(0, 3), st.just("fault"), _any_fault)
_cut: Final = _steps({"drop": (_close_codes,)})
_SCENES: Final[dict[str, st.SearchStrategy[tuple[Step, ...]]]] = {
    "publish": _scene(_publish),
    "register": _scene(_register, _publish),
    "lifecycle": _scene(_steps(_LIFECYCLE)),
    "begin": _scene(_begin, _settle, _publish),
    "wants": _scene(_steps(_WANTS)),
    "fault": _scene(_fault),
    "faults": _scene(_faults),
    "heal": _scene(_heal, _settle, _publish),
    "outage": _scene(_publish, _cut, _publish, _settle, _publish),
    "blackout": _scene(_publish, _fault, _cut, _publish, _heal, _settle, _publish),
    "pause": st.tuples(st.builds(Step, st.none(), st.just("pause"), _pauses)),
    "release": st.tuples(st.builds(Step, st.none(), st.sampled_from(("release", "join")))),
}
# What happens how often: without sessions and data the rest would have nothing to abuse.
_MIXED: Final = {
    "publish": 4,
    "lifecycle": 4,
    "pause": 3,
    "wants": 3,
    "fault": 2,
    "faults": 2,
    "register": 3,
    "outage": 3,
    "blackout": 3,
    "begin": 3,
    "heal": 2,
    "release": 2,
}
_STORM: Final = {"lifecycle": 16, "begin": 4, "publish": 2, "pause": 1, "release": 1, "outage": 1}
_DECKS: Final = tuple(
    tuple(name for name, weight in weights.items() for _ in range(weight))
    for weights in (_MIXED, _MIXED, _MIXED, _STORM)
)


@st.composite
def _scenes(draw: st.DrawFn, deck: tuple[str, ...]) -> tuple[Step, ...]:
    return draw(_SCENES[draw(st.sampled_from(deck))])


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Draw a script; most begin with callbacks, a start and data, or little would happen."""
    assume(draw(st.integers(0, 1000)))  # hypothesis tries the simplest of all first: an empty one
    steps = draw(st.lists(_register, min_size=1, max_size=4))
    steps += draw(st.one_of(st.just(()), _SCENES["begin"], _SCENES["begin"], _SCENES["begin"]))
    scenes = _scenes(draw(st.sampled_from(_DECKS)))
    for scene in draw(st.lists(scenes, min_size=draw(st.sampled_from((0, 15, 30))), max_size=40)):
        steps += scene
    return Script(
        steps=tuple(steps),
        workers=draw(st.integers(2, 4)),
        anchored=draw(st.booleans()),
        small_inbox=draw(st.sampled_from((False, False, True))),
        stable_after=draw(st.sampled_from((0.02, 0, 30))),
        failures=draw(st.sampled_from((1000, 3, 1))),
        dynamic=draw(st.booleans()),
        rotating=draw(st.booleans()),
        watchlist=draw(st.sampled_from(((), ("QQQ",)))),
        keeps=draw(st.sampled_from((True, True, False))),
        hectic=draw(st.booleans()),
    )
