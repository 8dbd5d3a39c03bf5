"""What a soak says at its end, in lines or as JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from msgspec import structs

from benchmarks.report import environment
from benchmarks.soak_accounts import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.soak_bot import Totals
    from benchmarks.soak_day import Plan, Result

__all__ = ["as_json", "lines"]


def lines(plan: Plan, result: Result) -> Iterator[str]:
    """The report, line by line."""
    feed = plan.feed
    yield (
        f"simulated   {result.minutes / 60:.2f} h of market time at speed {feed.speed:g} in "
        f"{result.seconds:.0f} s; seed {feed.seed}, {len(feed.symbols)} symbols"
    )
    yield from _faults(plan, result)
    totals = result.totals
    yield (
        f"connection  {totals.runs} runs, {totals.attempts} attempts, {totals.sessions} sessions, "
        f"{totals.reconnects} reconnects; breaker opened {totals.breaker_opened} times"
    )
    yield f"delivery    highest lag {totals.highest_lag:.2f} s, {result.stale} reports of silence"
    yield from _accounts(result)
    yield from _resources(plan, result)
    for problem in result.accounts.problems:
        yield f"PROBLEM     {problem}"
    for (channel, symbol), count in sorted(result.accounts.unaccounted.items()):
        yield f"PROBLEM     {channel} {symbol}: {count} unaccounted"
    if result.threads_grown:
        yield "PROBLEM     threads grew"
    if result.failure:
        yield f"PROBLEM     {result.failure}"
    if result.interrupted:
        yield "interrupted: this is what was known by then"


def _faults(plan: Plan, result: Result) -> Iterator[str]:
    kinds = sorted(result.kinds_of_faults.items())
    of = "" if len(result.done) == plan.faults else f" of {plan.faults}"
    yield f"faults      {len(result.done)}{of}: " + ", ".join(f"{name} {n}" for name, n in kinds)


def _accounts(result: Result) -> Iterator[str]:
    accounts = result.accounts
    kinds = accounts.kinds
    aside = f"{kinds['muted']} while mute, {kinds['unsubscribed']} while not subscribed"
    stopped = kinds["stopped"] - accounts.undelivered
    yield f"published   {accounts.published}, of these not for us {accounts.not_asked_for}:"
    yield f"              {aside}, {stopped} while stopped"
    yield f"sent        {accounts.sent} ="
    yield f"              {kinds['delivered']:>9} delivered"
    yield f"              {kinds['unheard']:>9} delivered just after their callback was removed"
    yield (
        f"              {kinds['in gaps']:>9} in gaps, {accounts.lost_with_session} of them sent "
        "into a session that ended"
    )
    twice = accounts.dropped_in_gaps + result.undelivered_at_restarts
    if twice:
        yield f"                        ({twice} of them also counted as dropped or undelivered)"
    yield f"              {kinds['dropped']:>9} dropped"
    yield f"              {kinds['rejected']:>9} rejected"
    yield f"              {accounts.undelivered:>9} undelivered at stop"
    yield f"              {kinds['unaccounted']:>9} unaccounted"


def _resources(plan: Plan, result: Result) -> Iterator[str]:
    growth, before, after = result.growth, result.before, result.after
    if growth is not None:
        yield (
            f"memory      {growth.first_mib:.1f} MiB after warm-up, {growth.last_mib:.1f} at the "
            f"end, peak {growth.peak_mib:.1f}"
        )
        slopes = (("slope", growth.mib_per_hour), ("last half", growth.late_mib_per_hour))
        for name, slope in slopes:
            market = slope / plan.feed.speed
            yield (
                f"              {name:<9} {slope:+8.2f} MiB per real hour, "
                f"{market:+.3f} per market hour"
            )
        yield f"threads     {growth.threads_least} to {growth.threads_most} over the day"
    if before is not None and after is not None:
        yield (
            f"left        threads {before.threads} before, {after.threads} after; "
            f"descriptors {before.descriptors} before, {after.descriptors} after"
        )


def as_json(plan: Plan, result: Result) -> dict[str, Any]:
    """The same as one object."""
    accounts, growth = result.accounts, result.growth
    return {
        "benchmark": "soak",
        "environment": environment(),
        "good": result.good,
        "interrupted": result.interrupted,
        "failure": result.failure,
        "hours": result.minutes / 60,
        "speed": plan.feed.speed,
        "seconds": result.seconds,
        "seed": plan.feed.seed,
        "symbols": list(plan.feed.symbols),
        "faults": [asdict(done) for done in result.done],
        "faults_by_kind": dict(sorted(result.kinds_of_faults.items())),
        "accounts": {
            "published": accounts.published,
            "not_asked_for": accounts.not_asked_for,
            "sent": accounts.sent,
            "lost_with_session": accounts.lost_with_session,
            "undelivered": accounts.undelivered,
            "undelivered_at_restarts": result.undelivered_at_restarts,
            **{kind.replace(" ", "_"): accounts.kinds[kind] for kind in KINDS},
            "by_key": {f"{c} {s}": dict(kinds) for (c, s), kinds in accounts.by_key.items()},
            "dropped_in_gaps": accounts.dropped_in_gaps,
            "lost": [structs.asdict(entry) for entry in accounts.lost],
            "problems": accounts.problems,
        },
        "manager": _counters(result.totals),
        "stale": result.stale,
        "growth": None
        if growth is None
        else {**asdict(growth), "mib_per_market_hour": growth.mib_per_hour / plan.feed.speed},
        "threads_grown": result.threads_grown,
        "windows": [
            {**asdict(window), "keys": window.keys and sorted(window.keys)}
            for window in result.windows
        ],
        "samples": [asdict(sample) for sample in result.samples],
        "before": result.before and asdict(result.before),
        "after": result.after and asdict(result.after),
    }


def _counters(totals: Totals) -> dict[str, Any]:
    # Not by asdict, which makes counters of counters.
    counters = {field.name: getattr(totals, field.name) for field in fields(totals)}
    dropped = {f"{channel} {cause}": n for (channel, cause), n in totals.dropped.items()}
    return {**counters, "delivered": dict(totals.delivered), "dropped": dropped}
