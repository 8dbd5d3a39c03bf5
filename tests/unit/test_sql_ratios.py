"""The ratios of any batches equal those worked out from the whole table."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from realtime_stream.sinks.sql.ratios import RatioWindows
from realtime_stream.sinks.sql.rows import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.sinks.sql.rows import Series

_SERIES = ("AAPL", "1m")
_SIZE = 3


class _Table:
    """What a database would hold; the reference."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.asked: list[int] = []

    def load(self, series: Series, before_ns: int | None, limit: int) -> list[Entry]:
        assert series == _SERIES
        self.asked.append(limit)
        return self.before(2**63 if before_ns is None else before_ns, limit)

    def before(self, before_ns: int, limit: int) -> list[Entry]:
        older = sorted(start for start in self.entries if start < before_ns)
        return [self.entries[start] for start in older[-limit:]]


def _entry(start: int, value: int, rank: int = 0) -> Entry:
    return Entry(start, Decimal(value), Decimal(value) * 7, (True, True, False, rank))


def _ratio(value: Decimal, before: Sequence[Decimal]) -> str | None:
    total = sum(map(Fraction, before))
    if not total:
        return None
    exact = Fraction(value) * len(before) / total
    return str(min(Decimal(round(exact * 10_000)).scaleb(-4), Decimal("999999.9999")))


def _write(windows: RatioWindows, table: _Table, rows: list[Entry]) -> list[str | None]:
    ratios, window = windows.rate(_SERIES, rows, table.load)
    windows.keep([(_SERIES, window)])
    table.entries |= {row.timestamp_ns: row for row in rows}
    return [spread for spread, _ in ratios]


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), max_size=12))
def test_batches_in_order(batches: list[list[int]]) -> None:
    table, windows, start = _Table(), RatioWindows(_SIZE), 0
    for values in batches:
        rows = [_entry(start + place, value) for place, value in enumerate(values)]
        start += len(values)
        found = _write(windows, table, rows)
        assert found == [
            _ratio(row.spread, [one.spread for one in table.before(row.timestamp_ns, _SIZE)])
            for row in rows
        ]
    assert table.asked == [2 * _SIZE][: len(batches)]  # once, when nothing was known


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 50)), max_size=60),
    st.integers(1, 25),
)
def test_single_bars_in_any_order(writes: list[tuple[int, int]], forget_every: int) -> None:
    table, windows = _Table(), RatioWindows(_SIZE)
    for number, (start, value) in enumerate(writes):
        if number % forget_every == 0:
            windows = RatioWindows(_SIZE)  # another process goes on
        expected = _ratio(Decimal(value), [one.spread for one in table.before(start, _SIZE)])
        assert _write(windows, table, [_entry(start, value, rank=number)]) == [expected]
    assert set(table.asked) <= {_SIZE, 2 * _SIZE}


def test_nothing_is_kept_of_a_batch_that_was_not_stored() -> None:
    table, windows = _Table(), RatioWindows(_SIZE)
    _write(windows, table, [_entry(0, 10)])

    windows.rate(_SERIES, [_entry(1, 1000)], table.load)

    assert _write(windows, table, [_entry(2, 10)]) == ["1.0000"]


def test_a_worse_bar_does_not_change_the_window() -> None:
    table, windows = _Table(), RatioWindows(_SIZE)
    _write(windows, table, [_entry(0, 10), _entry(1, 10, rank=9)])

    ratios, window = windows.rate(_SERIES, [_entry(1, 1000, rank=1)], table.load)
    windows.keep([(_SERIES, window)])

    assert ratios[0][0] == "100.0000"
    assert _write(windows, table, [_entry(2, 20)]) == ["2.0000"]
