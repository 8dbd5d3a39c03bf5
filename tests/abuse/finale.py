"""The end of every script: user code and server behave, and then everything must hold."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from realtime_stream import (
    ConnectionState,
    LifecycleState,
    StateChange,
    StreamFailedError,
    StreamStoppedError,
    Subscription,
)
from realtime_stream.runtime.states import ALIVE
from tests.abuse.accounts import check_anchor, check_order, check_totals
from tests.abuse.crew import PATIENCE, stacks
from tests.abuse.scripts import ANCHOR, EVENT_KINDS, SYMBOLS
from tests.abuse.world import NAME

if TYPE_CHECKING:
    from tests.abuse.callbacks import Registered
    from tests.abuse.world import World

__all__ = ["finish"]

_PROBED: Final = (*SYMBOLS, ANCHOR, "DYN", "QQQ", "OTHER")
_HOLDS_DATA_BACK: Final = ("'mute'", "'stop_reading'")


def finish(world: World) -> None:
    """Recover, begin again, serve every registration, stop, and balance the accounts.

    Raises:
        AssertionError: Something does not hold.
    """
    world.heal()
    assert world.calm.begin(PATIENCE), f"a callback does not end\n{stacks()}"
    assert world.simulator.wait_for(lambda s: len(s.ledger) == world.published)
    _recover(world)
    alive = world.registrations.alive()
    before = {each: len(each.given) for each in (*alive, *world.registrations.removed())}
    runs = len(world.witness.runs)
    state = _begin_again(world)
    wanted = world.manager.subscriptions()
    assert state is (ConnectionState.CONNECTED if wanted else ConnectionState.IDLE), state
    if wanted:
        assert world.witness.wait_settled(runs, PATIENCE)
        _probe(world, alive, wanted)
    _end(world)
    _check_listeners(alive, before, connected=bool(wanted))
    _check_removed(world, before)
    _check(world)


def _recover(world: World) -> None:
    """What was begun comes to its end by itself: a stop; and, unless told to wait, a connection."""
    manager = world.manager
    status = manager.status()
    if status.lifecycle is LifecycleState.STOPPING:
        assert manager.wait_until_stopped(PATIENCE), f"it never stops: {manager.status()}"
    elif status.lifecycle in ALIVE and status.next_attempt_in < 1:
        with contextlib.suppress(StreamFailedError, StreamStoppedError):  # as decided before
            manager.start(PATIENCE)


def _begin_again(world: World) -> ConnectionState:
    if world.script.keeps:
        return world.manager.restart(2 * PATIENCE)
    with contextlib.suppress(StreamFailedError):  # nobody may have been told yet
        world.manager.stop(PATIENCE)
    return world.manager.start(PATIENCE)


def _probe(world: World, alive: list[Registered], wanted: frozenset[Subscription]) -> None:
    """Every key that is wanted is served, and every registration is given what it is for."""
    manager, simulator = world.manager, world.simulator
    status = manager.status()
    assert not status.refused
    assert status.acknowledged == wanted
    assert simulator.wait_for(lambda s: len(s.sessions()) == 1)
    before = {each: len(each.given) for each in alive}
    watched = {*world.script.watchlist, *(("DYN",) if world.script.dynamic else ())}
    run = world.witness.runs[-1]
    expected: dict[Registered, list[tuple[str, str, int]]] = {each: [] for each in alive}
    for kind in EVENT_KINDS:
        count = len(simulator.ledger)
        world.publish(tuple((kind, symbol) for symbol in _PROBED))
        assert simulator.wait_for(lambda s: len(s.ledger) == world.published)
        new = simulator.ledger.entries()[count:]
        for entry in new:
            key = Subscription(entry.channel, entry.symbol)
            serves = {key, Subscription(entry.channel, "*")} & wanted
            assert entry.sessions == bool(serves), (entry, wanted)
            for each in alive:
                symbols = each.symbols or watched
                if each.kind == entry.channel and {entry.symbol, "*"} & {*symbols}:
                    expected[each].append((entry.channel, entry.symbol, entry.t_ns or 0))
        run.take(sum(entry.sessions for entry in new))
    in_time = world.registrations.wait_until(
        lambda: all(len(each.given) >= before[each] + len(expected[each]) for each in alive),
        PATIENCE,
    )
    assert in_time, "a registration was not served"
    assert manager.status().received == len(run.tape)
    for each in alive:
        if each.kind in EVENT_KINDS:
            given = [(e.channel, e.symbol, e.timestamp_ns) for e in each.events(before[each])]
            assert given == expected[each], each


def _end(world: World) -> None:
    """Nothing is left of it."""
    manager = world.manager
    manager.stop(PATIENCE)
    status = manager.status()
    assert status.lifecycle is LifecycleState.STOPPED
    assert status.connection is ConnectionState.DISCONNECTED
    assert status.threads == ()
    assert not manager.is_connected()
    assert manager.wait_until_stopped(0)
    ours = f"realtime-stream/{NAME}/"
    assert not [t.name for t in threading.enumerate() if t.name.startswith(ours)]
    assert world.simulator.wait_for(lambda s: not s.sessions())


def _check_listeners(
    alive: list[Registered], before: dict[Registered, int], *, connected: bool
) -> None:
    for each in alive:
        since = each.given[before[each] :]
        if each.kind == "state_change":
            last = since[-1]
            assert isinstance(last, StateChange)
            assert last.current is LifecycleState.STOPPED
        elif each.kind in {"connect", "disconnect"} and connected:
            assert since, f"{each.kind} was not told"


def _check_removed(world: World, before: dict[Registered, int]) -> None:
    for each in world.registrations.removed():
        assert len(each.given) == before[each], f"{each} was called after its removal"


def _check(world: World) -> None:
    """The books; see the test module for what is exact."""
    witness, ledger = world.witness, world.simulator.ledger.entries()
    assert not world.wrong, world.wrong
    assert not world.registrations.wrong, world.registrations.wrong
    witness.read_tapes()
    witness.check_moves()
    witness.check_counters()
    check_order(witness.runs, ledger)
    check_totals(witness.runs, ledger, world.raw)
    if world.script.anchored:
        held_back = any(name in repr(world.script.steps) for name in _HOLDS_DATA_BACK)
        check_anchor(
            witness.runs,
            ledger,
            all_written=not held_back,
            overflows=world.script.small_inbox,
        )
