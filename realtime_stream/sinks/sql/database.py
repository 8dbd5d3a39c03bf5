"""Connections: which databases, with which limits, and what their errors become."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from realtime_stream.errors import ConfigurationError, SinkError
from realtime_stream.sinks.sql.addresses import ALLOWED, checked_url, mask, shown
from realtime_stream.sinks.sql.migrations import SchemaError, is_current, migrate

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Database"]

T = TypeVar("T")

_SHOWN: Final = 200  # characters of a database's message
# How long an answer may be overdue, when the database should have given up by itself.
_OVERDUE: Final = 1.0  # seconds


class Database:
    """One database, its pool of connections, and the limit of each operation.

    Nothing is connected before the first operation. Its repr and its errors name the database
    without the URL's user, password or parameters. Of the database's own messages, which errors
    quote, passwords and the user are masked; one about a parameter may quote that.

    Thread safety: every method may be called from any thread.
    """

    def __init__(
        self, target: str | Engine, *, timeout: float, pool_size: int, max_overflow: int
    ) -> None:
        """Check the URL; load its driver.

        Args:
            target: A URL, or an engine of the caller's, which then keeps its own limits.
            timeout: Seconds after which an operation gives up.
            pool_size: Connections to a PostgreSQL server that are kept.
            max_overflow: Connections beyond those, while they are needed.

        Raises:
            ConfigurationError: The URL is not of a database we know, a figure is out of range, or
                the driver is not installed.
        """
        _check_limits(timeout, pool_size, max_overflow)
        self._timeout = timeout
        self._owned = not isinstance(target, Engine)
        if isinstance(target, Engine):
            self.engine = target
        else:
            self.engine = _engine(checked_url(target), timeout, pool_size, max_overflow)
        if self.engine.dialect.name not in {"sqlite", "postgresql"}:
            msg = f"bars cannot be stored in {self.engine.dialect.name}: give {ALLOWED}"
            raise ConfigurationError(msg)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._shown = shown(self.engine.url)
        self._running = threading.local()  # the deadline of each thread
        if self._owned and not self.is_sqlite:
            event.listen(self.engine, "do_connect", self._connect)
        self._prepared = False  # two threads that both prepare do no harm
        self._file: tuple[int, int] | None = None  # which file the connections are to
        self.files_lost = 0  # how often that was deleted or moved

    def __repr__(self) -> str:
        """Kind, host and name of the database."""
        return self._shown

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do something in one transaction, with the schema up to date.

        A connection that turns out to have been lost before is replaced once, so ``work`` may be
        called twice; nothing of the first call is kept then.

        Raises:
            SinkError: It did not work, or not within the limit; the cause is the database's error.
        """
        try:
            if self.is_sqlite:
                self._follow_file()
            if not self._prepared:
                if not self._attempt(is_current):
                    self._attempt(migrate)
                self._prepared = True
                self._file = self._present_file()
            return self._attempt(work)
        except (SQLAlchemyError, SchemaError, ValueError, OverflowError) as exc:
            # The driver's own, of what it cannot put into a statement, come as they are.
            raise SinkError(self.explain(exc)) from exc

    def prepare(self) -> None:
        """Only bring the schema up to date.

        Raises:
            SinkError: It did not work.
        """
        self.run(lambda _connection: None)

    def explain(self, error: BaseException) -> str:
        """What to say of an error: where, and :meth:`reason`."""
        return f"{self._shown}: {self.reason(error)}"

    def reason(self, error: BaseException) -> str:
        """The first line of the database's own message; ASCII, without user and password."""
        cause = getattr(error, "orig", None) or error
        lines = str(cause).strip().splitlines()
        said = mask(lines[0], self.engine.url) if lines else "no message"
        text = f"{type(cause).__name__}: {said}"
        return ascii(text)[1:-1][:_SHOWN]

    def close(self) -> None:
        """Let go of all connections, unless the engine is the caller's."""
        if self._owned:
            self.engine.dispose()

    def _follow_file(self) -> None:
        """Let go of connections to a file that was deleted or moved: they would go on to it."""
        if self._prepared and self._owned and self._present_file() != self._file:
            self.engine.dispose()
            self._prepared = False
            self.files_lost += 1  # of two threads that both say so, one would do

    def _present_file(self) -> tuple[int, int] | None:
        """Which file is there now."""
        if not self.is_sqlite:
            return None
        try:
            found = os.stat(self.engine.url.database or "")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        deadline = self._deadline()
        try:
            return self._once(work, deadline)
        except DBAPIError as exc:
            if not exc.connection_invalidated or deadline.expired:
                raise
        return self._once(work, self._deadline())

    def _deadline(self) -> _Deadline:
        return _Deadline(self._timeout + _OVERDUE)

    def _once(self, work: Callable[[Connection], T], deadline: _Deadline) -> T:
        self._running.deadline = deadline
        try:
            with self.engine.connect() as connection:
                if not self.is_sqlite:
                    deadline.cover(connection.connection.driver_connection)
                with connection.begin():
                    return work(connection)
        finally:
            self._running.deadline = None
            deadline.end()

    def _connect(self, dialect: Any, _record: object, arguments: Any, parameters: Any) -> Any:
        """Called by SQLAlchemy, which goes on with queries of its own before it gives it to us."""
        connection = dialect.connect(*arguments, **parameters)
        deadline: _Deadline | None = getattr(self._running, "deadline", None)
        if deadline is not None:
            deadline.cover(connection)
        return connection


class _Deadline:
    """Ends a connection that does not answer.

    A server that is stuck obeys no timeout of its own, and its kernel goes on acknowledging, so
    that only the client can give up. What waits for the answer then gets an error.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()  # guards _line
        self._line: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self.expired = False

    def cover(self, connection: Any) -> None:
        """Give what happens on a driver's connection so many seconds from now; the first counts."""
        if self._line is not None:
            return
        # A descriptor of our own, of the same line: the driver's may be reused once it is closed.
        self._line = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        timer = self._timer = threading.Timer(self._seconds, self._expire)
        timer.name = "realtime-stream/sql-deadline"
        timer.daemon = True
        timer.start()

    def end(self) -> None:
        """It was in time, or is given up."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def _expire(self) -> None:
        with self._lock:
            if self._line is None:
                return
            self.expired = True
            with contextlib.suppress(OSError):  # it has ended by itself, and so has the wait
                self._line.shutdown(socket.SHUT_RDWR)


def _check_limits(timeout: float, pool_size: int, max_overflow: int) -> None:
    if not 0 < timeout < math.inf:
        msg = f"timeout must be above 0 seconds, not {timeout}"
        raise ConfigurationError(msg)
    if pool_size < 1 or max_overflow < 0:
        msg = f"pool_size must be above 0 and max_overflow not below: {pool_size}, {max_overflow}"
        raise ConfigurationError(msg)


def _engine(url: URL, timeout: float, pool_size: int, max_overflow: int) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    engine: Engine | None
    try:
        engine = create_engine(
            url,
            connect_args={} if sqlite else _limits(url, timeout),
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=timeout,
            hide_parameters=True,  # bars are nobody's business in an error
        )
    except ImportError as exc:  # also when psycopg is there, but no libpq
        msg = (
            f"PostgreSQL needs {exc.name or 'psycopg[binary]'}: pip install 'realtime-stream[sql]'"
        )
        raise ConfigurationError(msg) from exc
    except (ArgumentError, ValueError, TypeError):
        engine = None
    if engine is None:  # raised here, where the original, which may quote a secret, is no context
        msg = f"a parameter of the database's URL is malformed: give {ALLOWED}"
        raise ConfigurationError(msg)
    if sqlite:
        _set_up_sqlite(engine, timeout)
    return engine


def _limits(url: URL, timeout: float) -> dict[str, Any]:
    """What libpq and the server are told, so that nothing waits for longer than the timeout."""
    milliseconds = math.ceil(timeout * 1000)
    lock = math.ceil(milliseconds * 0.9)  # so that the message names the lock
    given = url.query.get("options", "")
    options = given if isinstance(given, str) else " ".join(given)
    return {
        "connect_timeout": max(math.ceil(timeout), 2),  # libpq takes no less
        "options": (
            f"{options} -c statement_timeout={milliseconds} -c lock_timeout={lock}"
            f" -c idle_in_transaction_session_timeout={2 * milliseconds} -c timezone=UTC"
        ).lstrip(),
        "keepalives": 1,
        "keepalives_idle": max(math.ceil(timeout), 1),
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": milliseconds,
    }


def _set_up_sqlite(engine: Engine, timeout: float) -> None:
    """Readers beside the writer, and a wait for other writers, on every new connection."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:  # called by SQLAlchemy
        cursor = connection.cursor()
        try:
            # Of several that make a file at once, SQLite refuses all but one without waiting.
            attempts = Retrying(
                retry=retry_if_exception(_is_busy),
                stop=stop_after_delay(timeout),
                wait=wait_random(0, 0.02),
                reraise=True,
            )
            cursor.execute("PRAGMA busy_timeout = 0")
            attempts(cursor.execute, "PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA busy_timeout = {math.ceil(timeout * 1000)}")
            cursor.execute("PRAGMA synchronous = NORMAL")
        finally:
            cursor.close()


def _is_busy(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
