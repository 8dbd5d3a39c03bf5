"""What is written comes back exactly, once, and the better bar stays."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from realtime_stream import Bar, ConfigurationError
from realtime_stream.errors import SinkRejectedError
from realtime_stream.sinks.sql import OHLCVBar, OHLCVRepository, SqlSink
from tests.external.bars import MINUTE_NS, START_NS, bar, plain, rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from realtime_stream.ports import Sink

_COUNT = "SELECT count(*) FROM ohlcv_bars"
_START = datetime(2026, 9, 21, 14, 14, tzinfo=UTC)


@pytest.fixture
def sink(url: str) -> Iterator[SqlSink]:
    sink = SqlSink(url)
    yield sink
    sink.close()


@pytest.fixture
def repository(url: str) -> Iterator[OHLCVRepository]:
    with OHLCVRepository(url) as repository:
        yield repository


def test_the_sink_is_a_sink(sink: SqlSink) -> None:
    port: Sink = sink

    port.write([])
    assert port.name == "sql"


@pytest.mark.parametrize(
    ("price", "volume"),
    [
        ("0.000000000001", "0.000000001"),
        ("9999999999999999.999999999999", "9999999999999999999.999999999"),
        ("1234567890123456.123456789012", "1"),
        ("0.1", "100000000000000001"),
        ("1E+3", "5E-7"),
        ("187.500", "0"),
        ("0.00000100", "0E-12"),
        ("12345678.9012", "12345.6789"),
    ],
)
def test_decimals_come_back_exactly(
    sink: SqlSink, repository: OHLCVRepository, price: str, volume: str
) -> None:
    exact = Decimal(price)

    sink.write([bar(open=exact, high=exact, low=exact, close=exact, volume=Decimal(volume))])

    (found,) = repository.latest("AAPL", "1m")
    assert (found.open, found.high, found.low, found.close) == (exact,) * 4
    assert found.volume == Decimal(volume)
    assert found.spread == 0


def test_the_spread_is_exact_whatever_the_digits(
    sink: SqlSink, repository: OHLCVRepository
) -> None:
    low, high = Decimal("0.000000000001"), Decimal(9_999_999_999_999_999)

    sink.write([bar(open=low, high=high, low=low, close=high)])

    assert repository.latest("AAPL", "1m")[0].spread == Decimal("9999999999999998.999999999999")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"trade_count": None, "vwap": None},
        {"bar_kind": "updated", "source": "backfill"},
        {"is_partial": True, "source": "built"},
        {"is_filled": True, "volume": Decimal(0), "trade_count": 0, "vwap": Decimal(0)},
        {"symbol": "AAPL240315C00172500", "timeframe": "1d"},
        {"symbol": "BTC/USD", "timeframe": "ticks:100", "timestamp_ns": START_NS + 123_456_789},
        {"symbol": 'A"\\,{}', "timeframe": "NULL"},
        {"timestamp_ns": -1, "received_ns": 0},
        {"received_ns": 2**63 - 1, "trade_count": 2**63 - 1},
    ],
)
def test_every_field_comes_back(
    sink: SqlSink, repository: OHLCVRepository, fields: dict[str, Any]
) -> None:
    written = bar(**fields)

    sink.write([written])

    (found,) = repository.latest(written.symbol, written.timeframe)
    back = found.to_bar()
    assert back == written
    assert (back.source, back.received_ns) == (written.source, written.received_ns)


def test_the_database_gives_id_and_time_of_creation(
    sink: SqlSink, repository: OHLCVRepository
) -> None:
    sink.write([bar(0), bar(1)])

    first, second = repository.latest("AAPL", "1m", 2)
    assert isinstance(first.id, UUID)
    assert first.id.version == 4
    assert first.id != second.id
    assert first.created_at is not None
    assert abs(datetime.now(UTC) - first.created_at) < timedelta(minutes=5)


def test_a_vwap_is_a_quotient_and_rounded(sink: SqlSink, repository: OHLCVRepository) -> None:
    sink.write([bar(vwap=Decimal(561) / Decimal(3.0 + 4))])

    assert repository.latest("AAPL", "1m")[0].vwap == Decimal("80.142857142857")


def test_a_bar_that_is_written_again_is_there_once(sink: SqlSink, url: str) -> None:
    sink.write([bar(0), bar(1), bar(0)])
    before = rows(url, "SELECT id, created_at FROM ohlcv_bars ORDER BY timestamp")
    sink.write([bar(1), bar(0)])

    assert rows(url, "SELECT id, created_at FROM ohlcv_bars ORDER BY timestamp") == before
    assert len(before) == 2


_BY_RANK: tuple[dict[str, Any], ...] = (
    {"is_partial": True, "is_filled": True, "received_ns": 900},
    {"is_partial": True, "received_ns": 10},
    {"is_partial": True, "bar_kind": "updated", "received_ns": 5},
    {"is_filled": True, "received_ns": 800},
    {"is_filled": True, "bar_kind": "updated", "received_ns": 1},
    {"received_ns": 6},
    {"received_ns": 7},
    {"bar_kind": "updated", "received_ns": 2},
    {"bar_kind": "updated", "received_ns": 3},
)


def _ranked() -> list[Bar]:
    """Bars of one key, each better than the one before; the volume tells which is which."""
    return [bar(volume=Decimal(rank), **fields) for rank, fields in enumerate(_BY_RANK)]


@pytest.mark.parametrize("together", [True, False])
def test_the_better_of_two_stays_in_either_order(url: str, *, together: bool) -> None:
    ranked = _ranked()
    with OHLCVRepository(url) as repository:
        for number, (worse, better) in enumerate(itertools.combinations(range(len(ranked)), 2)):
            for order, pair in enumerate(((worse, better), (better, worse))):
                symbol = f"S{number}.{order}"
                batch = [_named(ranked[place], symbol) for place in pair]
                for part in [batch] if together else [[one] for one in batch]:
                    repository.insert(part)
                (found,) = repository.latest(symbol, "1m", 9)
                assert found.volume == better, (worse, better, order)


def test_the_best_of_three_stays_in_every_order(url: str) -> None:
    ranked = _ranked()
    chosen = [ranked[2], ranked[6], ranked[7]]  # partial update, regular, update
    with OHLCVRepository(url) as repository:
        for number, order in enumerate(itertools.permutations(chosen)):
            for one in order:
                repository.insert([_named(one, f"S{number}")])
            assert [row.volume for row in repository.latest(f"S{number}", "1m", 9)] == [7]


def test_of_equals_the_one_written_last_stays(sink: SqlSink, repository: OHLCVRepository) -> None:
    sink.write([bar(volume=Decimal(1)), bar(volume=Decimal(2))])
    assert repository.latest("AAPL", "1m")[0].volume == 2
    sink.write([bar(volume=Decimal(3))])
    assert repository.latest("AAPL", "1m")[0].volume == 3


def _named(one: Bar, symbol: str) -> Bar:
    return OHLCVBar.from_bar(one).model_copy(update={"symbol": symbol}).to_bar()


def test_ratios_compare_with_the_bars_before(url: str) -> None:
    bars = [
        bar(minute, high=Decimal(200) + minute * minute, volume=Decimal(100 + 7 * minute))
        for minute in range(60)
    ]
    parts = [bars[:1], bars[1:5], bars[5:43], bars[43:44], bars[44:]]
    with OHLCVRepository(url) as repository:
        for part in parts[:3]:
            repository.insert(part[::-1])  # the order of time counts, not of arrival
    with OHLCVRepository(url) as another:  # which has to read what was before
        for part in parts[3:]:
            another.insert(part)
        found = another.latest("AAPL", "1m", 100)

    assert [row.to_bar() for row in found] == bars
    for place, row in enumerate(found):
        before = bars[max(place - 20, 0) : place]
        assert row.spread_ratio == _ratio(row.spread, [one.high - one.low for one in before])
        assert row.volume_ratio == _ratio(row.volume, [one.volume for one in before])


def _ratio(value: Decimal, before: Sequence[Decimal]) -> Decimal | None:
    if not before:
        return None
    exact = Fraction(value) * len(before) / sum(map(Fraction, before))
    return Decimal(round(exact * 10_000)).scaleb(-4)


def test_ratios_of_updated_and_of_older_bars(sink: SqlSink, repository: OHLCVRepository) -> None:
    sink.write([bar(minute, volume=Decimal(100)) for minute in range(30, 100)])
    sink.write([bar(98, volume=Decimal(150), bar_kind="updated")])  # its window is in memory
    sink.write([bar(35, volume=Decimal(50), bar_kind="updated")])  # its window is not
    sink.write([bar(10, volume=Decimal(70))])  # there is nothing before it
    sink.write([bar(100, volume=Decimal(100))])

    found = {
        (row.timestamp - _START) // timedelta(minutes=1): row.volume_ratio
        for row in repository.latest("AAPL", "1m", 200)
    }
    assert found[98] == Decimal("1.5")
    assert found[35] == Decimal("0.5")
    assert found[10] is None
    assert found[100] == Decimal("0.9756")  # 100 x 20 / (19 x 100 + 150)


def test_ratios_without_meaning_and_beyond_measure(
    sink: SqlSink, repository: OHLCVRepository
) -> None:
    flat: dict[str, Any] = {name: Decimal(5) for name in ("open", "high", "low", "close")}
    sink.write([bar(0, volume=Decimal("0.000000001"), **flat), bar(1, volume=Decimal(10**12))])

    _, second = repository.latest("AAPL", "1m", 2)
    assert second.spread_ratio is None
    assert second.volume_ratio == Decimal("999999.9999")


def test_latest_and_range_are_in_order_of_time(sink: SqlSink, repository: OHLCVRepository) -> None:
    sink.write([bar(minute) for minute in (4, 2, 0, 3, 1)])
    sink.write([bar(9, symbol="MSFT"), bar(9, timeframe="5m")])
    sink.write([bar(9, timeframe="ticks:2", timestamp_ns=START_NS + rest) for rest in (7, 5, 900)])

    def minutes(found: list[OHLCVBar]) -> list[int]:
        return [(row.timestamp_ns - START_NS) // MINUTE_NS for row in found]

    def between(first: int, last: int) -> list[int]:
        step = timedelta(minutes=1)
        return minutes(repository.range("AAPL", "1m", _START + first * step, _START + last * step))

    assert minutes(repository.latest("AAPL", "1m", 3)) == [2, 3, 4]
    assert minutes(repository.latest("AAPL", "1m", 99)) == [0, 1, 2, 3, 4]
    assert repository.latest("TSLA", "1m", 3) == []
    assert between(1, 3) == [1, 2]
    assert between(9, 99) == []
    naive = (_START + timedelta(minutes=4)).replace(tzinfo=None)
    assert minutes(repository.range("AAPL", "1m", naive, naive + timedelta(seconds=1))) == [4]
    ticks = repository.latest("AAPL", "ticks:2", 9)
    assert [row.nanosecond for row in ticks] == [5, 7, 900]
    with pytest.raises(ConfigurationError, match="n must be above 0"):
        repository.latest("AAPL", "1m", 0)


def test_a_repository_takes_rows_and_an_engine(url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    try:
        with OHLCVRepository(engine) as repository:
            repository.insert([OHLCVBar.from_bar(bar(0)), bar(1)])
        with OHLCVRepository(engine) as again:  # closing the first has left the engine open
            assert [row.to_bar() for row in again.latest("AAPL", "1m", 2)] == [bar(0), bar(1)]
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("volume", "-1"),
        ("low", "0"),
        ("open", "187.6"),
        ("close", "187.0"),
        ("high", "187.2"),
        ("low", "9"),  # below as a number, above as text
        ("high", "1000"),
        ("vwap", "-0.1"),
        ("trade_count", "-1"),
        ("nanosecond", "1000"),
    ],
)
def test_the_database_checks_what_others_write(
    sink: SqlSink, url: str, column: str, value: str
) -> None:
    sink.write([bar()])
    statement = text(f"UPDATE ohlcv_bars SET {column} = {value}")  # noqa: S608  # of the table above

    if (column, value) in {("low", "9"), ("high", "1000")}:
        with plain(url) as connection:
            connection.execute(statement)
    else:
        with pytest.raises(IntegrityError), plain(url) as connection:
            connection.execute(statement)


def test_bars_that_do_not_fit_are_named_and_none_is_stored(sink: SqlSink, url: str) -> None:
    long = Decimal("187.3000000000001")
    batch = [
        bar(0),
        bar(1, close=long),
        bar(2, volume=Decimal("0.0000000001")),
        bar(3, high=Decimal("1e16")),
        bar(4, low=Decimal("NaN")),
        bar(5, high=Decimal("Infinity")),
        bar(6, low=Decimal(0)),
        bar(7, close=Decimal(188)),
        bar(8, volume=Decimal(-1)),
        bar(9, symbol="X" * 33),
        bar(10, symbol="A\0B"),
        bar(11, symbol="\ud800"),
        bar(12, timeframe=""),
        bar(13, trade_count=-1),
        bar(14, received_ns=2**63),
        bar(15, vwap=Decimal("NaN")),
        bar(16, vwap=Decimal("1e40")),
        bar(17, timestamp_ns=10**21),
        bar(18, volume=Decimal("1E-99999")),
        bar(19),
    ]

    with pytest.raises(SinkRejectedError) as caught:
        sink.write(batch)

    assert sorted(caught.value.rejected) == list(range(1, 19))
    assert caught.value.rejected[1] == "close has more than 12 decimal places"
    assert caught.value.rejected[2] == "volume has more than 9 decimal places"
    assert caught.value.rejected[3] == "high has more than 16 digits before the point"
    assert caught.value.rejected[4] == "low is not finite"
    sink.write([batch[0], batch[19]])
    assert rows(url, _COUNT) == [(2,)]


@pytest.mark.parametrize("bad", [[0], [36], [99], [3, 4, 50], list(range(100))])
def test_what_the_database_refuses_is_found(sink: SqlSink, url: str, bad: list[int]) -> None:
    sink.prepare()
    with plain(url) as connection:
        connection.execute(text(_REFUSE_13[connection.dialect.name]))
    batch = [
        bar(minute, volume=Decimal(13 if minute in bad else 100), symbol=f"S{minute % 7}")
        for minute in range(100)
    ]

    with pytest.raises(SinkRejectedError) as caught:
        sink.write(batch)

    assert sorted(caught.value.rejected) == bad
    assert "no 13" in next(iter(caught.value.rejected.values()))
    assert rows(url, _COUNT) == [(0,)]
    good = [one for place, one in enumerate(batch) if place not in bad]
    sink.write(good)
    assert rows(url, _COUNT) == [(len(good),)]


_REFUSE_13 = {
    "sqlite": (
        "CREATE TRIGGER own BEFORE INSERT ON ohlcv_bars WHEN new.volume = '13' "
        "BEGIN SELECT RAISE(ABORT, 'no 13'); END"
    ),
    "postgresql": 'ALTER TABLE ohlcv_bars ADD CONSTRAINT "no 13" CHECK (volume <> 13)',
}
