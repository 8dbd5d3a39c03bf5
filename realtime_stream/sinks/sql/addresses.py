"""Databases' URLs: which are taken, what is shown of them, and which database one means."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from realtime_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

__all__ = ["ALLOWED", "checked_url", "mask", "shown", "target_of"]

ALLOWED: Final = "sqlite:///file.db or postgresql://user:password@host/database"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_IN_MEMORY: Final = "a database in memory would lose its bars: give sqlite:///file.db"
# What libpq asks for where the URL does not say it.
_DEFAULTS: Final = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "service": "PGSERVICE",
}
_NAMED: Final = 20  # characters of a database's name in its target
_HASHED: Final = 10  # hexadecimal digits
_LONG: Final = 4  # characters from which a password is found within words, too


def checked_url(text: str) -> URL:
    """The URL, with the driver that is used.

    Raises:
        ConfigurationError: It is not of a database we know; nothing of it is shown.
    """
    url: URL | None
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None:  # raised here, where the original, which may quote the password, is no context
        msg = f"the database's URL is malformed: give {ALLOWED}"
        raise ConfigurationError(msg)
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        msg = f"database {url.drivername!a} is not supported: give {ALLOWED}"
        raise ConfigurationError(msg)
    if driver == "sqlite":
        _check_file(url)
    elif "@" in f"{url.host or ''}{url.database or ''}":
        msg = f"quote the password in the database's URL, @ is %40: give {ALLOWED}"
        raise ConfigurationError(msg)
    return url.set(drivername=driver)


def _check_file(url: URL) -> None:
    name = url.database or ":memory:"
    if name == ":memory:":
        raise ConfigurationError(_IN_MEMORY)
    if name.startswith("file:") or not {"uri", "mode"}.isdisjoint(url.query):
        msg = "a file: URI may mean a database in memory: give sqlite:///file.db"
        raise ConfigurationError(msg)


def shown(url: URL) -> str:
    """Kind, host and name of the database; neither user nor password nor parameters."""
    name = url.database or ""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{name}"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{name}"


def mask(text: str, url: URL) -> str:
    """A database's message without the URL's passwords and user.

    What is short is only found where it stands alone: within other words it would be told by what
    is missing in them.
    """
    passwords = [
        value
        for key in url.query
        if key.endswith("password")
        for value in url.normalized_query[key]
    ]
    for secret in filter(None, [str(url.password or ""), *passwords]):
        if len(secret) >= _LONG:
            text = text.replace(secret, "***")
        text = _without_word(text, secret)
    return _without_word(text, url.username) if url.username else text


def _without_word(text: str, word: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)


def target_of(engine: Engine) -> str:
    """A name for the database that an engine is for, the same in every run; ``[a-z0-9-]+``.

    Of PostgreSQL host, port and database count, of SQLite the file's absolute path; user, password
    and other parameters do not.
    """
    url = engine.url
    if url.get_backend_name() == "sqlite":
        path = os.path.abspath(url.database or "")  # whose links may change
        return _slug(Path(path).stem, "sqlite", path)
    parameters: Mapping[str, Any] = engine.dialect.create_connect_args(url)[1]
    place = {
        key: str(parameters.get(key) or os.environ.get(variable, ""))
        for key, variable in _DEFAULTS.items()
    }
    place["host"] = place["host"].lower()
    place["port"] = place["port"] or "5432"
    # A database without a name is the one called like the user.
    place["dbname"] = place["dbname"] or str(parameters.get("user", ""))
    return _slug(url.database or "", "postgresql", *place.values())


def _slug(name: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_NAMED].strip("-")
    return f"{words}-{digest[:_HASHED]}" if words else digest[:_HASHED]
