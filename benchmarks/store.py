"""Bars stored per second: the SQL sink, and plain executemany of the same rows.

    python benchmarks/store.py
    python benchmarks/store.py --bars 5000 --runs 3 --database sqlite --json
    python benchmarks/store.py --postgresql postgresql://user:password@host/database

Without a URL a PostgreSQL server is started where one is installed, on this machine's disk; with
one, everything happens in schemas of its own, which are dropped.

The plain client inserts into the same table, with the same index and checks and as many bars in a
transaction. Its rows are ready beforehand, as its driver takes them: it checks, converts and
compares nothing, and knows no conflicts. The sink is given bars.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
import tempfile
import time
from decimal import Decimal
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

import psycopg
from psycopg import sql

from benchmarks.report import Ratio, environment, print_environment, summary, table
from benchmarks.runs import BenchmarkError, positive
from realtime_stream import Bar
from realtime_stream.sinks.sql import SqlSink, upgrade
from realtime_stream.sinks.sql.tables import ohlcv_bars
from tests.external.servers import PostgresServer, find_binaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OURS: Final = "realtime_stream"
_PLAIN: Final = {"sqlite": "sqlite3 executemany", "postgresql": "psycopg executemany"}
_AT_LEAST: Final = 0.5
_SYMBOLS: Final = 50
_START_NS: Final = 1_790_000_040_000_000_000
_MINUTE_NS: Final = 60_000_000_000
_WRITTEN: Final = [
    column.name for column in ohlcv_bars.columns if column.name not in {"id", "created_at"}
]
_COLUMNS: Final = ", ".join(_WRITTEN)
_INSERT: Final = f"INSERT INTO ohlcv_bars ({_COLUMNS}) VALUES"
_SELECT: Final = f"SELECT {_COLUMNS} FROM ohlcv_bars"  # noqa: S608  # as above


def main() -> int:
    """Run the benchmark; return the exit code."""
    options = _options()
    bars = _bars(options.bars)
    results: list[dict[str, Any]] = []
    try:
        for name in options.database:
            with contextlib.ExitStack() as stack:
                place = _place(name, options, stack)
                if place is None:
                    print(f"{name}: not installed, left out", file=sys.stderr)
                    continue
                results.append(_measure(name, place, bars, options))
    except (BenchmarkError, psycopg.Error) as exc:
        print(f"error: {type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    ratios = [_ratio(result) for result in results]
    if options.json:
        where = environment()
        where["versions"] |= {
            "sqlite": sqlite3.sqlite_version,
            **{package: metadata.version(package) for package in ("sqlalchemy", "psycopg")},
        }
        document = {
            "benchmark": "store",
            "environment": where,
            "bars": options.bars,
            "batch": options.batch,
            "results": results,
            "ratios": [ratio.as_json() for ratio in ratios],
        }
        print(json.dumps(document, indent=2))
    else:
        _print(results, ratios, options.batch)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bars stored per second, by client.")
    parser.add_argument("--bars", type=positive, default=20_000, help="in one run")
    parser.add_argument("--batch", type=positive, default=500, help="bars in one transaction")
    parser.add_argument("--runs", type=positive, default=5, help="of each client")
    parser.add_argument("--database", choices=_PLAIN, nargs="+", default=list(_PLAIN))
    parser.add_argument("--postgresql", help="URL of a server to use instead of one of our own")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def _bars(number: int) -> list[Bar]:
    """Minute bars of many symbols, minute by minute, as a stream brings them."""
    bars = []
    for place in range(number):
        minute, symbol = divmod(place, _SYMBOLS)
        cents = 10_000 + (place * 7919) % 5_000
        start = _START_NS + minute * _MINUTE_NS
        bars.append(
            Bar(
                symbol=f"SYM{symbol:02}",
                timestamp_ns=start,
                received_ns=start + _MINUTE_NS + 80_000_000 + place,
                open=Decimal(cents).scaleb(-2),
                high=Decimal(cents + place % 40 + 1).scaleb(-2),
                low=Decimal(cents - place % 30).scaleb(-2),
                close=Decimal(cents + place % 20).scaleb(-2),
                volume=Decimal(100 + (place * 31) % 90_000),
                trade_count=1 + place % 700,
                vwap=Decimal(cents * 10_000 + place % 10_000).scaleb(-6),
            )
        )
    return bars


def _place(
    name: str, options: argparse.Namespace, stack: contextlib.ExitStack
) -> _Sqlite | _Postgresql | None:
    """Where fresh databases of a kind come from; ``None`` where there is no such kind."""
    if name == "sqlite":
        return _Sqlite(stack)
    binaries = find_binaries()
    if binaries is None and not options.postgresql:
        return None
    return _Postgresql(options.postgresql, binaries, stack)


def _measure(
    name: str, place: _Sqlite | _Postgresql, bars: list[Bar], options: argparse.Namespace
) -> dict[str, Any]:
    """Every client in turn; each run has a fresh table."""
    ours: list[float] = []
    plain: list[float] = []
    rows: list[tuple[Any, ...]] = []
    numbers = count()
    for _ in range(options.runs):
        with place.fresh(next(numbers)) as url:
            ours.append(len(bars) / _with_sink(url, bars, options.batch))
            rows = place.rows(url)
        if len(rows) != len(bars):
            msg = f"{len(rows)} bars of {len(bars)} were stored"
            raise BenchmarkError(msg)
        with place.fresh(next(numbers)) as url:
            upgrade(url)
            plain.append(len(rows) / place.plain(url, rows, options.batch))
        print(f"{name}: {ours[-1]:,.0f} and {plain[-1]:,.0f} bars/s", file=sys.stderr)
    figures = {OURS: ours, _PLAIN[name]: plain}
    return {
        "database": name,
        "clients": {
            client: {"bars_per_second": summary(found)} for client, found in figures.items()
        },
    }


def _with_sink(url: str, bars: Sequence[Bar], batch: int) -> float:
    """Seconds the sink takes."""
    sink = SqlSink(url)
    try:
        sink.prepare()
        started = time.perf_counter()
        for first in range(0, len(bars), batch):
            sink.write(bars[first : first + batch])
        return time.perf_counter() - started
    finally:
        sink.close()


class _Sqlite:
    """Files in a folder that is removed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())

    @contextlib.contextmanager
    def fresh(self, number: int) -> Iterator[str]:
        """The URL of a database nobody has written to."""
        yield f"sqlite:///{self._folder}/{number}.db"

    def rows(self, url: str) -> list[tuple[Any, ...]]:
        """What is stored, as the driver gives and takes it."""
        with contextlib.closing(self._connect(url)) as connection:
            return connection.execute(f"{_SELECT} ORDER BY received_ns").fetchall()

    def plain(self, url: str, rows: Sequence[tuple[Any, ...]], batch: int) -> float:
        """Seconds the driver takes, with the settings that the sink uses."""
        marks = ", ".join("?" * len(_WRITTEN))
        with contextlib.closing(self._connect(url)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            started = time.perf_counter()
            for first in range(0, len(rows), batch):
                connection.executemany(f"{_INSERT} ({marks})", rows[first : first + batch])
                connection.commit()
            return time.perf_counter() - started

    def _connect(self, url: str) -> sqlite3.Connection:
        return sqlite3.connect(url.removeprefix("sqlite:///"))


class _Postgresql:
    """Schemas of their own, in the database that was given or in one of a server of ours."""

    def __init__(self, url: str | None, binaries: Path | None, stack: contextlib.ExitStack) -> None:
        self._url = url or ""
        if binaries is not None and not url:
            server = PostgresServer(binaries, sync=True)
            stack.callback(server.close)
            self._url = server.url()

    @contextlib.contextmanager
    def fresh(self, number: int) -> Iterator[str]:
        """The URL of an empty schema."""
        schema = sql.Identifier(f"benchmark_store_{number}")
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            try:
                joint = "&" if "?" in self._url else "?"
                yield f"{self._url}{joint}options=-csearch_path%3Dbenchmark_store_{number}"
            finally:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))

    def rows(self, url: str) -> list[tuple[Any, ...]]:
        """What is stored, as the driver gives and takes it."""
        with psycopg.connect(url) as connection:
            return connection.execute(f"{_SELECT} ORDER BY received_ns".encode()).fetchall()

    def plain(self, url: str, rows: Sequence[tuple[Any, ...]], batch: int) -> float:
        """Seconds the driver takes."""
        marks = ", ".join(["%s"] * len(_WRITTEN))
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            started = time.perf_counter()
            for first in range(0, len(rows), batch):
                statement = f"{_INSERT} ({marks})".encode()
                cursor.executemany(statement, rows[first : first + batch])
                connection.commit()
            return time.perf_counter() - started


def _ratio(result: dict[str, Any]) -> Ratio:
    ours, plain = (found["bars_per_second"]["median"] for found in result["clients"].values())
    what = f"bars stored, {result['database']}, / {_PLAIN[result['database']]}"
    return Ratio(what, ours / plain, at_least=_AT_LEAST)


def _print(results: list[dict[str, Any]], ratios: list[Ratio], batch: int) -> None:
    print_environment()
    headings = (f"bars stored, {batch} in a transaction", "client", "bars/s")
    rows = [
        (result["database"], client, f"{found['bars_per_second']['median']:,.0f}")
        for result in results
        for client, found in result["clients"].items()
    ]
    print(table(headings, rows), end="\n\n")
    print(table((f"{OURS} / plain", "ratio", "bound"), [ratio.row() for ratio in ratios]))


if __name__ == "__main__":
    raise SystemExit(main())
