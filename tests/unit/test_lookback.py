"""The newest bars of every series, for a bot that looks back while it streams."""

from __future__ import annotations

import random
import threading

from realtime_stream.runtime.lookback import LookBack
from tests.unit.test_history_desk import MINUTE, START, minute, minutes_of

ORIGIN = "bars"


def kept(book: LookBack, n: int = 1000) -> list[int]:
    return minutes_of(book.recent("AAPL", n, "1m", [ORIGIN]))


def filled(capacity: int, *minutes: int) -> LookBack:
    book = LookBack(capacity)
    for n in minutes:
        book.put(minute(n), ORIGIN)
    return book


def test_nothing_is_there_before_anything_came() -> None:
    book = LookBack(5)
    assert book.recent("AAPL", 5, "1m", [ORIGIN]) == []
    assert book.find("AAPL", "1m", ORIGIN, START) is None
    assert book.newest("AAPL", "1m", ORIGIN) is None
    assert not book.begins_before(minute(0), ORIGIN)


def test_the_newest_come_oldest_first() -> None:
    book = filled(10, 0, 1, 2, 5)
    assert kept(book) == [0, 1, 2, 5]
    assert kept(book, 2) == [2, 5]
    newest = book.newest("AAPL", "1m", ORIGIN)
    assert newest is not None
    assert newest.timestamp_ns == START + 5 * MINUTE


def test_as_many_are_shown_as_it_may_keep() -> None:
    book = filled(3, *range(20))
    assert kept(book) == [17, 18, 19]


def test_it_never_keeps_more_than_twice_its_capacity() -> None:
    """Not even when all of a long look-back comes while newer bars are there."""
    book = filled(50, 2000)
    for n in range(2000):
        book.put(minute(n), ORIGIN)
    held = sum(book.find("AAPL", "1m", ORIGIN, START + n * MINUTE) is not None for n in range(2001))
    assert held < 100
    assert kept(book) == list(range(1951, 2001))


def test_an_update_takes_the_place_of_its_bar() -> None:
    book = filled(5, 0, 1, 2)
    for n in (1, 2):
        book.put(minute(n, "11", bar_kind="updated"), ORIGIN)
    assert [bar.close for bar in book.recent("AAPL", 5, "1m", [ORIGIN])] == [10, 11, 11]
    found = book.find("AAPL", "1m", ORIGIN, START + MINUTE)
    assert found is not None
    assert found.bar_kind == "updated"


def test_an_older_bar_goes_where_it_belongs() -> None:
    book = filled(5, 4, 1, 3, 0)
    assert kept(book) == [0, 1, 3, 4]
    assert book.find("AAPL", "1m", ORIGIN, START + 2 * MINUTE) is None


def test_one_that_is_older_than_all_of_a_full_series_is_left_out() -> None:
    book = filled(3, 5, 6, 7, 1)
    assert kept(book) == [5, 6, 7]


def test_one_between_those_of_a_full_series_pushes_the_oldest_out() -> None:
    book = filled(3, 5, 6, 8, 7)
    assert kept(book) == [6, 7, 8]


def test_whether_an_older_bar_is_kept() -> None:
    book = filled(3, 5)
    assert book.begins_before(minute(6), ORIGIN)
    assert not book.begins_before(minute(5), ORIGIN)
    assert not book.begins_before(minute(4), ORIGIN)


def test_series_are_told_apart() -> None:
    book = filled(3, 0)
    book.put(minute(1, symbol="MSFT"), ORIGIN)
    book.put(minute(2, timeframe="5m"), ORIGIN)
    book.put(minute(3), "trades")
    assert kept(book) == [0]
    found = book.recent("AAPL", 5, "1m", ["trades", ORIGIN])
    assert minutes_of(found) == [3]
    assert minutes_of(book.recent("AAPL", 5, "1m", ["nothing", ORIGIN])) == [0]


def test_what_was_returned_is_the_callers_own() -> None:
    book = filled(3, 0, 1)
    book.recent("AAPL", 5, "1m", [ORIGIN]).clear()
    assert kept(book) == [0, 1]


def test_readers_see_a_series_in_order_while_one_writes() -> None:
    book, writing, problems = LookBack(20), threading.Event(), list[object]()
    numbers = list(range(3000))
    shuffler = random.Random(7)  # noqa: S311  # an order, not a secret
    for start in range(0, 3000, 30):
        part = numbers[start : start + 30]
        shuffler.shuffle(part)
        numbers[start : start + 30] = part

    def read() -> None:
        while not writing.is_set():
            found = kept(book)
            if found != sorted(set(found)) or len(found) > 20:
                problems.append(found)
            newest = book.newest("AAPL", "1m", ORIGIN)
            if newest is not None and found:
                book.find("AAPL", "1m", ORIGIN, newest.timestamp_ns)
                book.begins_before(newest, ORIGIN)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for n in numbers:
            book.put(minute(n), ORIGIN)
    finally:
        writing.set()
        for reader in readers:
            reader.join(10)
    assert problems == []
    assert kept(book)[-1] == 2999
