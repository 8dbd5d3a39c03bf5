"""The schema comes by itself, once, whoever is first."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Table, inspect, text

from realtime_stream.errors import SinkError
from realtime_stream.sinks.sql import OHLCVRepository, SqlSink, database, migrations, upgrade
from realtime_stream.sinks.sql.tables import metadata
from tests.external.bars import bar, plain, rows

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

    from tests.external.servers import PostgresServer

_VERSION = "SELECT version_num FROM realtime_stream_version"
_FIRST_USE = """
import sys
from realtime_stream.sinks.sql import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1])
"""


def test_an_empty_database_is_brought_up_to_date_once(url: str) -> None:
    upgrade(url)
    upgrade(url)

    assert rows(url, _VERSION) == [("0001",)]
    assert rows(url, "SELECT count(*) FROM ohlcv_bars") == [(0,)]


def test_the_table_is_the_one_that_the_code_knows(url: str) -> None:
    upgrade(url)

    with plain(url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_object": lambda thing, *_: (
                    not isinstance(thing, Table) or thing.name == "ohlcv_bars"
                ),
                "compare_type": True,
            },
        )
        assert compare_metadata(context, metadata) == []
        (index,) = inspect(connection).get_indexes("ohlcv_bars")
    assert index["name"] == "idx_ohlcv_symbol_timeframe"
    assert index["unique"]


def test_it_can_be_taken_back(url: str) -> None:
    upgrade(url)

    with plain(url) as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations.__path__[0]))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with plain(url) as connection:
        assert not inspect(connection).has_table("ohlcv_bars")

    upgrade(url)
    assert rows(url, _VERSION) == [("0001",)]


def test_another_applications_alembic_is_left_alone(url: str) -> None:
    with plain(url) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))

    upgrade(url)

    assert rows(url, "SELECT version_num FROM alembic_version") == [("theirs",)]


def test_a_later_releases_schema_is_not_touched(url: str) -> None:
    upgrade(url)
    with plain(url) as connection:
        connection.execute(text("UPDATE realtime_stream_version SET version_num = '9999'"))
    sink = SqlSink(url)

    with pytest.raises(SinkError, match="of a later release"):
        sink.write([bar()])

    sink.close()
    assert rows(url, _VERSION) == [("9999",)]


def test_two_processes_may_be_first(url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _FIRST_USE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    complaints = [process.communicate(timeout=30)[1] for process in processes]
    assert complaints == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3
    assert rows(url, _VERSION) == [("0001",)]


def test_two_threads_may_be_first(url: str) -> None:
    barrier = threading.Barrier(3)
    errors: list[BaseException] = []

    def first(symbol: str) -> None:
        with OHLCVRepository(url) as repository:
            barrier.wait(10)
            try:
                repository.insert([bar(symbol=symbol)])
            except SinkError as exc:
                errors.append(exc)

    threads = [threading.Thread(target=first, args=(f"S{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert rows(url, "SELECT count(*) FROM ohlcv_bars") == [(3,)]


def test_who_opens_a_file_waits_for_the_other_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'bars.db'}"
    refused = threading.Event()

    def note(error: BaseException) -> bool:
        refused.set()
        return isinstance(error, sqlite3.OperationalError)

    monkeypatch.setattr(database, "_is_busy", note)
    with closing(sqlite3.connect(tmp_path / "bars.db")) as other, OHLCVRepository(url) as ours:
        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=ours.insert, args=([bar()],))
        thread.start()
        assert refused.wait(10)
        other.rollback()
        thread.join(30)
    assert rows(url, "SELECT count(*) FROM ohlcv_bars") == [(1,)]


def test_who_may_not_change_the_schema_can_use_it(
    postgres: PostgresServer, postgres_url: str
) -> None:
    upgrade(postgres_url)
    name = postgres_url.rpartition("/")[2]
    connection: Connection[Any]
    with postgres.connect(name) as connection:
        connection.execute("CREATE ROLE writer LOGIN PASSWORD 'plain'")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON ohlcv_bars TO writer")
        connection.execute("GRANT SELECT ON realtime_stream_version TO writer")
    try:
        with OHLCVRepository(f"postgresql://writer:plain@127.0.0.1:{postgres.port}/{name}") as own:
            own.insert([bar()])
            assert [row.to_bar() for row in own.latest("AAPL", "1m")] == [bar()]
    finally:
        with postgres.connect(name) as connection:
            connection.execute("DROP OWNED BY writer")
            connection.execute("DROP ROLE writer")
