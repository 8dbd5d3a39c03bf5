"""A PostgreSQL server of the tests' own: started, killed, and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PostgresServer", "find_binaries"]

PASSWORD: Final = "s3cret/p@ss:word"  # every character that a URL must quote
_QUOTED: Final = "s3cret%2Fp%40ss%3Aword"
_DEADLINE: Final = 30.0  # seconds in which it must answer
_PAUSE: Final = 0.02  # seconds between two attempts to connect
_PLACES: Final = "/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"


def find_binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``; the newest, where there are several."""
    found = [
        folder
        for place in _PLACES
        for folder in Path(place).glob("*/bin")
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]
    if found:
        return max(found, key=lambda folder: folder.parent.name.rjust(20))
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


class PostgresServer:
    """One server with a data folder of its own, on a free port of the loopback interface.

    It refuses to run as root; then it runs as ``postgres``, or else as ``nobody``.
    """

    def __init__(self, binaries: Path, *, sync: bool) -> None:
        self._binaries = binaries
        self._sync = sync
        self._user = _other_user()
        # Not below pytest's own folder, which other users cannot enter.
        self._folder = Path(tempfile.mkdtemp(prefix="rts-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.own(self._folder)
        self.port = _free_port()
        try:
            self._create()
            self.start()
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres", *, password: str = _QUOTED) -> str:
        """As a user would write it."""
        return f"postgresql://bars:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A plain connection in autocommit mode; the caller closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="bars",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        self._process = self._popen(
            "postgres",
            *("-D", str(self._folder / "data"), "-k", str(self._folder), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=40"),
            *("-c", f"fsync={'on' if self._sync else 'off'}", "-c", "log_min_messages=fatal"),
        )
        deadline = time.monotonic() + _DEADLINE
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(_PAUSE)  # nothing tells when a server is ready but a connection
            else:
                return

    def kill(self) -> None:
        """End the server and all its processes at once, as a power cut would."""
        process = self._process
        assert process is not None
        processes = [process.pid, *_children(process.pid)]
        for number in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait(_DEADLINE)
        self._process = None

    def pause(self) -> None:
        """Stop every process, so that connections stay but nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A fresh database for as long as the block lasts; its URL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(
                    sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
                )

    def close(self) -> None:
        """End the server, if it runs, and remove its files."""
        if self._process is not None:
            self.resume()
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def own(self, path: Path) -> None:
        """Make a path the server's."""
        if self._user:
            shutil.chown(path, self._user)

    def _create(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        self.own(secret)
        process = self._popen(
            "initdb",
            *("-D", str(self._folder / "data"), "-U", "bars", "-E", "UTF8", "--locale=C", "-N"),
            *("--auth=scram-sha-256", f"--pwfile={secret}"),
        )
        assert process.wait(_DEADLINE) == 0, self.log()

    def log(self) -> str:
        """What the server said."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def _popen(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._binaries / name), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,  # Ctrl-C is for pytest
                user=self._user,
                group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for process in [self._process.pid, *_children(self._process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _other_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _children(process: int) -> list[int]:
    """Its processes, which have process groups of their own."""
    listed = subprocess.run(
        ["pgrep", "-P", str(process)],  # noqa: S607  # wherever the system keeps it
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(number) for number in listed.stdout.split()]
