from __future__ import annotations

import pytest

from realtime_stream.market.channels import Subscription
from realtime_stream.providers.alpaca.subscriptions import MAX_REPEATS, Request, SubscriptionPlan

A, B, C, D = (Subscription("trades", symbol) for symbol in "ABCD")
Entries = frozenset[Subscription]


def entries(*of: Subscription) -> Entries:
    return frozenset(of)


def settled(*wanted: Subscription) -> SubscriptionPlan:
    plan = SubscriptionPlan(entries(*wanted))
    plan.next_request()
    plan.on_acknowledged(entries(*wanted))
    assert plan.settled
    return plan


def test_a_message_lists_symbols_per_channel_sorted() -> None:
    quotes = Subscription("quotes", "A")
    assert Request("subscribe", entries(B, quotes, A)).message() == {
        "action": "subscribe",
        "quotes": ["A"],
        "trades": ["A", "B"],
    }


def test_everything_is_asked_for_at_once_and_settles_when_acknowledged() -> None:
    plan = SubscriptionPlan(entries(A, B))
    states = [plan.settled]
    assert plan.next_request() == Request("subscribe", entries(A, B))
    assert plan.next_request() is None  # one request at a time
    plan.on_acknowledged(entries(A, B))
    states.append(plan.settled)
    assert states == [False, True]
    assert plan.next_request() is None


def test_nothing_wanted_is_settled() -> None:
    plan = SubscriptionPlan(frozenset())
    assert plan.settled
    assert plan.next_request() is None


def test_changes_are_asked_for_without_repeating_the_rest() -> None:
    plan = settled(A, B)
    plan.want(entries(B, C))
    assert not plan.settled
    assert plan.next_request() == Request("unsubscribe", entries(A))
    plan.on_acknowledged(entries(B))
    assert plan.next_request() == Request("subscribe", entries(C))
    plan.on_acknowledged(entries(B, C))
    assert plan.settled


def test_what_the_server_adds_by_itself_is_left_alone() -> None:
    plan = SubscriptionPlan(entries(A))
    plan.next_request()
    plan.on_acknowledged(entries(A, D))
    assert plan.settled
    assert plan.next_request() is None


def test_an_entry_missing_from_the_list_is_asked_for_again() -> None:
    plan = SubscriptionPlan(entries(A, B))
    plan.next_request()
    plan.on_acknowledged(entries(A))
    assert plan.missing == entries(B)
    assert plan.next_request() == Request("subscribe", entries(B))


@pytest.mark.parametrize("how", ["list without it", "no answer"])
def test_an_entry_never_acknowledged_is_given_up_after_its_repeats(how: str) -> None:
    plan = SubscriptionPlan(entries(A))
    for repeat in range(MAX_REPEATS + 1):
        assert plan.exhausted == frozenset(), repeat
        assert plan.next_request() == Request("subscribe", entries(A))
        if how == "no answer":
            plan.on_no_answer()
        else:
            plan.on_acknowledged(frozenset())
    assert plan.exhausted == entries(A)


def test_a_refused_request_is_halved_until_the_refused_entry_stands_alone() -> None:
    plan = SubscriptionPlan(entries(A, B, C, D))
    assert plan.next_request() == Request("subscribe", entries(A, B, C, D))
    assert plan.on_error(405, "symbol limit exceeded") == frozenset()
    assert plan.next_request() == Request("subscribe", entries(A, B))
    plan.on_acknowledged(entries(A, B))
    assert plan.next_request() == Request("subscribe", entries(C, D))
    assert plan.on_error(405, "symbol limit exceeded") == frozenset()
    assert plan.next_request() == Request("subscribe", entries(C))
    plan.on_acknowledged(entries(A, B, C))
    assert plan.next_request() == Request("subscribe", entries(D))
    assert plan.on_error(405, "symbol limit exceeded") == entries(D)
    assert plan.refused == {D: (405, "symbol limit exceeded")}
    assert plan.settled
    assert plan.next_request() is None


def test_a_half_that_is_not_wanted_any_more_is_left_out() -> None:
    plan = SubscriptionPlan(entries(A, B))
    plan.next_request()
    plan.on_error(405, "no")
    plan.want(entries(B))
    assert plan.next_request() == Request("subscribe", entries(B))


def test_an_entry_refused_after_it_was_unwanted_is_not_kept_as_refused() -> None:
    plan = SubscriptionPlan(entries(A))
    plan.next_request()
    plan.want(frozenset())
    assert plan.on_error(400, "invalid syntax") == frozenset()
    assert plan.refused == {}


def test_a_refusal_is_forgotten_once_its_entry_is_not_wanted() -> None:
    plan = SubscriptionPlan(entries(A))
    plan.next_request()
    plan.on_error(400, "invalid syntax")
    plan.want(frozenset())
    plan.want(entries(A))
    assert plan.next_request() == Request("subscribe", entries(A))


@pytest.mark.parametrize(("code", "again"), [(405, True), (410, False), (400, False)])
def test_room_below_the_symbol_limit_is_tried(code: int, again: bool) -> None:
    plan = settled(A)
    plan.want(entries(A, B))
    plan.next_request()
    plan.on_error(code, "no")
    assert plan.settled
    plan.want(entries(B))
    assert plan.next_request() == Request("unsubscribe", entries(A))
    plan.on_acknowledged(frozenset())
    expected = Request("subscribe", entries(B)) if again else None
    assert plan.next_request() == expected


def test_an_unsubscribe_that_is_not_answered_is_repeated_then_taken_for_done() -> None:
    plan = settled(A, B)
    plan.want(entries(B))
    for _ in range(MAX_REPEATS + 1):
        assert plan.next_request() == Request("unsubscribe", entries(A))
        plan.on_no_answer()
    assert plan.next_request() is None
    assert plan.settled


def test_an_unsubscribe_that_is_refused_is_taken_for_done() -> None:
    plan = settled(A)
    plan.want(frozenset())
    plan.next_request()
    assert plan.on_error(400, "invalid syntax") == frozenset()
    assert plan.settled


def test_a_server_that_ignores_an_unsubscribe_is_not_asked_for_ever() -> None:
    plan = settled(A, B)
    plan.want(entries(B))
    requests = 0
    while plan.next_request() is not None and requests < 100:
        requests += 1
        plan.on_acknowledged(entries(A, B))
    assert requests <= MAX_REPEATS + 1


def test_an_entry_whose_unsubscribe_was_lost_may_be_wanted_again() -> None:
    plan = settled(A)
    plan.want(frozenset())
    while plan.next_request() is not None:
        plan.on_no_answer()
    plan.want(entries(A))
    assert plan.exhausted == frozenset()


def test_words_of_the_server_that_answer_nothing_are_harmless() -> None:
    plan = SubscriptionPlan(entries(A))
    assert plan.on_error(405, "no") == frozenset()
    plan.on_no_answer()
    plan.on_acknowledged(entries(A))
    assert plan.settled


def test_a_request_stays_below_the_size_of_a_client_frame() -> None:
    many = frozenset(Subscription("trades", f"S{n:05}") for n in range(2500))
    plan, served, sizes = SubscriptionPlan(many), set[Subscription](), list[int]()
    while (request := plan.next_request()) is not None:
        sizes.append(len(request.entries))
        served |= request.entries
        plan.on_acknowledged(frozenset(served))
    assert sizes == [1000, 1000, 500]
    plan.want(frozenset())
    request = plan.next_request()
    assert request is not None
    assert len(request.entries) == 1000
