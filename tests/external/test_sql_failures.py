"""A database that dies, stands still, is locked or is full costs time, never a bar."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, event, text

from realtime_stream.errors import SinkError, SinkRejectedError
from realtime_stream.sinks.sql import OHLCVRepository, SqlSink
from realtime_stream.sinks.sql.migrations import ADVISORY_LOCK
from tests.external.bars import bar, plain, rows
from tests.external.servers import PASSWORD
from tests.external.storage_world import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realtime_stream import Bar
    from tests.external.servers import PostgresServer

_TIMEOUT = 1.0
_GIVES_UP = 2 * _TIMEOUT + 3.0  # seconds, on a machine that does other things
_ONCE = "SELECT count(*), count(DISTINCT timestamp) FROM ohlcv_bars"


@pytest.fixture
def sink(url: str) -> Iterator[SqlSink]:
    sink = SqlSink(url, timeout=_TIMEOUT)
    yield sink
    sink.close()


@contextlib.contextmanager
def _gives_up(match: str = ".") -> Iterator[None]:
    """What is done raises within seconds, and not because of the bars."""
    started = time.monotonic()
    with pytest.raises(SinkError, match=match) as caught:
        yield
    assert time.monotonic() - started < _GIVES_UP
    assert not isinstance(caught.value, SinkRejectedError)


def _batch(first: int = 0, number: int = 500) -> list[Bar]:
    return [bar(minute) for minute in range(first, first + number)]


def test_a_held_lock_ends_in_an_error_and_the_next_write_works(sink: SqlSink, url: str) -> None:
    sink.write([bar(0)])
    with locked(url):
        with _gives_up("lock"):
            sink.write([bar(0), bar(1)])
        with _gives_up():
            sink.write([bar(2)])

    sink.write([bar(0), bar(1)])
    assert rows(url, _ONCE) == [(2, 2)]


def test_by_default_a_lock_is_given_up_before_a_stop_is(sqlite_url: str) -> None:
    sink = SqlSink(sqlite_url)
    sink.write([bar(0)])
    with locked(sqlite_url):
        started = time.monotonic()
        with pytest.raises(SinkError, match="lock"):
            sink.write([bar(1)])
        assert time.monotonic() - started < 4.0  # of the five seconds of a stop
    sink.close()


def test_a_lock_that_is_let_go_in_time_is_waited_for(sink: SqlSink, url: str) -> None:
    sink.write([bar(0)])
    done = threading.Event()

    def write() -> None:
        sink.write([bar(1)])
        done.set()

    writer = threading.Thread(target=write)
    with locked(url):
        writer.start()
        assert not done.wait(_TIMEOUT / 5)
    writer.join(_GIVES_UP)
    assert done.is_set()


def test_readers_do_not_wait_for_a_writer_of_sqlite(sqlite_url: str) -> None:
    with OHLCVRepository(sqlite_url, timeout=_TIMEOUT) as repository:
        repository.insert([bar(0)])
        with locked(sqlite_url):
            assert [row.to_bar() for row in repository.latest("AAPL", "1m")] == [bar(0)]


def test_a_lock_at_the_first_use_ends_in_an_error(sink: SqlSink, url: str) -> None:
    with plain(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
        else:
            connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        with _gives_up():
            sink.write([bar(0)])

    sink.write([bar(0)])
    assert rows(url, _ONCE) == [(1, 1)]


@pytest.mark.parametrize("round_", range(3))
def test_a_server_killed_in_mid_write_has_each_bar_once_after_it(
    mortal_postgres: PostgresServer, round_: int
) -> None:
    """Killed at the insert, after it, or in between: the test does not choose."""
    url = mortal_postgres.url()
    sink = SqlSink(url, timeout=5.0)
    sink.write(_batch(number=1))
    stored = 0
    begun = threading.Event()
    errors: list[SinkError] = []

    def write() -> None:
        nonlocal stored
        for first in range(0, 200_000, 500):
            try:
                sink.write(_batch(first))
            except SinkError as exc:
                errors.append(exc)
                return
            stored = first + 500
            if stored > 500 * (round_ + 1):
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(20)
    mortal_postgres.kill()
    writer.join(20)
    assert not writer.is_alive()
    (error,) = errors
    assert not isinstance(error, SinkRejectedError)
    with pytest.raises(SinkError):
        sink.write(_batch(stored))

    mortal_postgres.start()
    assert rows(url, _ONCE)[0][0] >= stored  # what was said to be stored is
    sink.write(_batch(stored))
    sink.write(_batch(stored))
    assert rows(url, _ONCE) == [(stored + 500, stored + 500)]
    sink.close()


def test_connections_from_before_a_restart_are_replaced(mortal_postgres: PostgresServer) -> None:
    with OHLCVRepository(mortal_postgres.url()) as repository:
        repository.insert([bar(0)])
        mortal_postgres.kill()
        mortal_postgres.start()

        assert [row.to_bar() for row in repository.latest("AAPL", "1m")] == [bar(0)]
        mortal_postgres.kill()
        mortal_postgres.start()
        repository.insert([bar(1)])


def test_a_server_that_stands_still_is_given_up(mortal_postgres: PostgresServer) -> None:
    """Its kernel goes on acknowledging, and no timeout of its own runs."""
    sink = SqlSink(mortal_postgres.url(), timeout=_TIMEOUT)
    sink.write([bar(0)])

    mortal_postgres.pause()
    try:
        with _gives_up():
            sink.write([bar(1)])
        with _gives_up():
            sink.write([bar(1)])  # now on a new connection
    finally:
        mortal_postgres.resume()

    sink.write([bar(0), bar(1)])
    assert rows(mortal_postgres.url(), _ONCE) == [(2, 2)]
    sink.close()


class _Stall:
    """A line to a server that takes a client's greeting and then passes nothing on."""

    _READY = b"Z\x00\x00\x00\x05I"  # what the server says once the client may ask

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server = port
        self._lines: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._lines += [client, server]
                for one, other in ((client, server), (server, client)):
                    self._threads.append(threading.Thread(target=self._pass, args=(one, other)))
                    self._threads[-1].start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
                if self._READY in data:
                    return

    def close(self) -> None:
        for line in (self._listener, *self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self._threads:
            thread.join(_GIVES_UP)


def test_a_server_that_stands_still_after_the_greeting_is_given_up(
    postgres: PostgresServer,
) -> None:
    """Where SQLAlchemy asks for the version, before it gives the connection to anybody."""
    with contextlib.closing(_Stall(postgres.port)) as stall:
        sink = SqlSink(
            postgres.url().replace(f":{postgres.port}/", f":{stall.port}/"), timeout=_TIMEOUT
        )
        with _gives_up():
            sink.write([bar(0)])
        with _gives_up():
            sink.write([bar(0)])
        sink.close()


def test_neither_user_nor_a_short_password_shows_in_what_a_database_says(
    postgres: PostgresServer,
) -> None:
    """A masked letter within a word would tell what the password is."""
    for password in ("p", "a", "not-this-one"):
        sink = SqlSink(postgres.url(password=password), timeout=_TIMEOUT)
        with pytest.raises(SinkError, match=r"OperationalError: .+password auth") as caught:
            sink.write([bar(0)])
        assert 'for user "***"' in str(caught.value)
        sink.close()


@pytest.mark.parametrize("place", ["closed port", "wrong password", "no such database"])
def test_what_cannot_be_reached_is_named_without_its_password(
    postgres: PostgresServer, place: str
) -> None:
    url = {
        "closed port": postgres.url().replace(f":{postgres.port}/", ":1/"),
        "wrong password": postgres.url(password="not%20this-one"),
        "no such database": postgres.url("nowhere"),
    }[place]
    sink = SqlSink(url, timeout=_TIMEOUT)
    started = time.monotonic()

    with pytest.raises(SinkError, match=r"^postgresql://127\.0\.0\.1:\d+/\w+: ") as caught:
        sink.write([bar(0)])

    assert time.monotonic() - started < _GIVES_UP
    told = "".join(traceback.format_exception(caught.value)) + repr(sink)
    for secret in (PASSWORD, "not this-one", "not%20this-one", "s3cret"):
        assert secret not in told
    sink.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    sink = SqlSink(f"sqlite:///{tmp_path}/nowhere/bars.db")
    with _gives_up("unable to open"):
        sink.prepare()
    sink.close()


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bars.db").write_text("open,high,low,close\n" * 100, encoding="utf-8")
    sink = SqlSink(f"sqlite:///{tmp_path}/bars.db")
    with _gives_up("not a database"):
        sink.write([bar(0)])
    sink.close()


def _fill(sink: SqlSink | OHLCVRepository) -> int:
    """Write until the disk is full; how many bars were stored."""
    write = sink.write if isinstance(sink, SqlSink) else sink.insert
    stored = 0

    def go_on() -> None:
        nonlocal stored
        while stored < 500_000:
            write(_batch(stored))
            stored += 500

    with pytest.raises(SinkError, match=r"full|No space left") as caught:
        go_on()
    assert not isinstance(caught.value, SinkRejectedError)
    return stored


def test_a_database_that_may_not_grow_is_an_error(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    limit = [60]  # pages

    @event.listens_for(engine, "checkout")
    def _limited(connection: Any, *_: object) -> None:  # called by SQLAlchemy
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    with OHLCVRepository(engine) as repository:
        stored = _fill(repository)
        assert rows(sqlite_url, _ONCE) == [(stored, stored)]

        limit[0] = 6000
        repository.insert(_batch(stored))
    engine.dispose()
    assert rows(sqlite_url, _ONCE) == [(stored + 500, stored + 500)]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 16 MB; only root may make one, and not everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="rts-disk-"))
    mounted = os.geteuid() == 0 and _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    try:
        if not mounted:
            pytest.skip("no tmpfs can be mounted here")
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607  # as _mount
        folder.rmdir()


def _mount(*arguments: str) -> bool:
    command = ["mount", *arguments]  # wherever the system keeps it
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


def test_a_full_disk_under_sqlite(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/bars.db"
    sink = SqlSink(url)
    stored = _fill(sink)
    assert rows(url, _ONCE) == [(stored, stored)]

    assert _mount("-o", "remount,size=64m", str(small_disk))
    sink.write(_batch(stored))
    assert rows(url, _ONCE) == [(stored + 500, stored + 500)]
    sink.close()


def test_a_full_disk_under_postgresql(small_disk: Path, mortal_postgres: PostgresServer) -> None:
    place = small_disk / "tables"
    place.mkdir()
    small_disk.chmod(0o755)
    mortal_postgres.own(place)
    with mortal_postgres.connect() as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'".encode())
        connection.execute("CREATE DATABASE full_one TABLESPACE small")
    url = mortal_postgres.url("full_one")
    sink = SqlSink(url)
    stored = _fill(sink)
    assert rows(url, _ONCE) == [(stored, stored)]

    assert _mount("-o", "remount,size=64m", str(small_disk))
    sink.write(_batch(stored))
    assert rows(url, _ONCE) == [(stored + 500, stored + 500)]
    sink.close()
    mortal_postgres.close()  # before its disk goes
