"""The plan against a server with a limit, forbidden entries, and answers that get lost."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_stream.market.channels import Subscription
from realtime_stream.providers.alpaca.subscriptions import MAX_REPEATS, Request, SubscriptionPlan

ENTRIES = [Subscription(c, s) for c in ("bars", "trades") for s in "ABCDEFGH"]
wishes = st.lists(st.sampled_from(ENTRIES), max_size=16).map(frozenset)
REQUESTS_AT_MOST = 16 * 16


@dataclass
class Server:
    """What Alpaca does with requests: all or nothing, and the complete list as the answer."""

    limit: int
    forbidden: frozenset[Subscription]
    losses: list[bool]
    served: set[Subscription] = field(default_factory=set)

    def answer(self, request: Request, plan: SubscriptionPlan) -> None:
        lost = self.losses.pop() if self.losses else False
        code = self._apply(request)
        if lost:
            plan.on_no_answer()
        elif code is None:
            plan.on_acknowledged(frozenset(self.served))
        else:
            plan.on_error(code, "no")

    def _apply(self, request: Request) -> int | None:
        if request.action == "unsubscribe":
            self.served -= request.entries
            return None
        if request.entries & self.forbidden:
            return 410
        if len(self.served | request.entries) > self.limit:
            return 405
        self.served |= request.entries
        return None


def run(plan: SubscriptionPlan, server: Server) -> int:
    """Ask until nothing is left to ask for; return the number of requests."""
    requests = 0
    while not plan.exhausted and (request := plan.next_request()) is not None:
        requests += 1
        assert requests <= REQUESTS_AT_MOST
        if request.action == "subscribe":
            assert request.entries
            assert not request.entries & plan.refused.keys()
            assert request.entries <= plan.wanted
        else:
            assert not request.entries & plan.wanted
        server.answer(request, plan)
        assert plan.outstanding is None
    return requests


def check_settled(plan: SubscriptionPlan, server: Server) -> None:
    if plan.exhausted:
        return
    assert plan.settled
    refused = plan.refused.keys()
    assert (plan.acknowledged & plan.wanted) | refused == plan.wanted
    assert not plan.acknowledged & refused
    assert plan.acknowledged <= server.served
    assert {e for e, (code, _) in plan.refused.items() if code == 410} <= server.forbidden


@settings(deadline=None)  # a busy machine is no failure
@given(wishes, wishes, st.integers(0, 20), st.lists(st.booleans(), max_size=MAX_REPEATS))
def test_it_settles_with_everything_acknowledged_or_refused(
    wanted: frozenset[Subscription],
    forbidden: frozenset[Subscription],
    limit: int,
    losses: list[bool],
) -> None:
    plan, server = SubscriptionPlan(wanted), Server(limit, forbidden, losses)
    requests = run(plan, server)
    check_settled(plan, server)
    assert not plan.exhausted  # so few losses exhaust nothing
    assert requests <= 2 * max(len(wanted), 1) + 2 * MAX_REPEATS
    if not wanted & forbidden and len(wanted) <= limit:
        assert plan.acknowledged == wanted


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.lists(wishes, min_size=1, max_size=5),
    wishes,
    st.integers(0, 20),
    st.lists(st.booleans(), max_size=30),
)
def test_it_settles_or_gives_up_whatever_is_lost_while_wishes_change(
    changes: list[frozenset[Subscription]],
    forbidden: frozenset[Subscription],
    limit: int,
    losses: list[bool],
) -> None:
    plan, server = SubscriptionPlan(frozenset()), Server(limit, forbidden, losses)
    for wanted in changes:
        plan.want(wanted)
        run(plan, server)
        check_settled(plan, server)


@settings(deadline=None)  # a busy machine is no failure
@given(wishes.filter(bool))
def test_a_server_that_never_answers_exhausts_it(wanted: frozenset[Subscription]) -> None:
    plan, server = SubscriptionPlan(wanted), Server(99, frozenset(), [True] * 1000)
    assert run(plan, server) == MAX_REPEATS + 1
    assert plan.exhausted == wanted
