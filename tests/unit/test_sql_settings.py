"""Which databases are taken, what is missing without the extra, and what never shows."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url

from realtime_stream import ConfigurationError
from realtime_stream.errors import SinkError
from realtime_stream.sinks.sql import OHLCVRepository, SqlSink
from realtime_stream.sinks.sql.addresses import mask

if TYPE_CHECKING:
    from pathlib import Path

_WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Missing())
from realtime_stream import ConfigurationError
try:
    {code}
except ConfigurationError as exc:
    print(exc)
else:
    print("fine")
"""
_POSTGRESQL = "from realtime_stream.sinks.sql import SqlSink; SqlSink('postgresql://h/d')"
_SQLITE = "from realtime_stream.sinks.sql import SqlSink; SqlSink('sqlite:///x.db').close()"


@pytest.mark.parametrize(
    ("names", "code", "expected"),
    [
        ({"sqlalchemy"}, "import realtime_stream.sinks.sql", "needs sqlalchemy: pip install"),
        ({"alembic"}, "import realtime_stream.sinks.sql", "needs alembic: pip install"),
        ({"psycopg"}, _POSTGRESQL, "needs psycopg: pip install 'realtime-stream[sql]'"),
        ({"psycopg"}, _SQLITE, "fine"),
        ({"sqlalchemy", "alembic", "psycopg"}, "import realtime_stream", "fine"),
    ],
)
def test_what_is_missing_is_named_with_the_extra(names: set[str], code: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(names=names, code=code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert expected in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////tmp/x/bars.db", "sqlite:////tmp/x/bars.db"),
        ("sqlite:///bars.db", "sqlite:///bars.db"),
        ("postgresql://bot:hush@db.example/bars", "postgresql://db.example/bars"),
        ("postgres://bot:hush@db.example:5433/bars", "postgresql://db.example:5433/bars"),
        ("postgresql+psycopg://db.example/bars?password=hush", "postgresql://db.example/bars"),
        ("postgresql:///bars?host=/run/postgresql", "postgresql:///bars"),
    ],
)
def test_urls_that_are_taken_and_what_is_shown_of_them(url: str, shown: str) -> None:
    sink = SqlSink(url)
    repository = OHLCVRepository(url)

    assert repr(sink) == f"SqlSink({shown})"
    assert repr(repository) == f"OHLCVRepository({shown})"
    sink.close()
    repository.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bars.db",
        "mysql://bot:hush@h/d",
        "postgresql+psycopg2://bot:hush@h/d",
        "postgresql://bot:hu@sh:9x@h:port/d",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
        "sqlite:///x.db?mode=ro",
        "sqlite:///x.db?timeout=hush",
        "postgresql://bot:a@hu/sh@h/d",
        "postgresql://bot:se#cr@hush@h/d",
        "postgresql://bot:x@h/d?port=hush",
    ],
)
def test_urls_that_are_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///file\.db") as caught:
        SqlSink(url)

    assert caught.value.__context__ is None
    assert "hu" not in str(caught.value)
    assert "sh@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said", "told"),
    [
        ("postgresql://h/d", "no user, no secret", "no user, no secret"),
        ("postgresql://bot:p@h/d", "p failed: bad 'p' port p", "*** failed: bad '***' port ***"),
        ("postgresql://bot:hush@h/d", "rehushed bot robot", "re***ed *** robot"),
        ("postgresql://h/d?password=hush&sslpassword=k", "hush, k, key", "***, ***, key"),
        ("postgresql://bot:%5Bhu@h/d", '"[hu"', '"***"'),
    ],
)
def test_passwords_and_users_are_masked_where_they_stand(url: str, said: str, told: str) -> None:
    assert mask(said, make_url(url)) == told


_HERE = "postgresql://bot:hush@db.example/bars"


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("postgresql+psycopg://other:x@DB.example:5432/bars?connect_timeout=9", True),
        ("postgresql://bot:hush@db.example/other", False),
        ("postgresql://bot:hush@db.example:5433/bars", False),
        ("postgresql://bot:hush@other.example/bars", False),
        ("postgresql://bot:hush@/bars?host=db.example", True),
        ("postgresql:///bars?host=/run/postgresql", False),
        ("sqlite:///bars", False),
    ],
)
def test_a_target_is_the_host_the_port_and_the_database(url: str, same: bool) -> None:
    assert (_target(url) == _target(_HERE)) is same


def test_a_database_without_a_name_is_called_like_the_user() -> None:
    assert _target("postgresql://one@h") != _target("postgresql://other@h")
    assert "one" not in _target("postgresql://one@h")


def test_a_target_of_a_file_is_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = _target("sqlite:///bars.db")
    assert here == _target(f"sqlite:///{tmp_path}/x/../bars.db")
    assert here != _target("sqlite:///other.db")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert here != _target("sqlite:///bars.db")
    assert here == _target("sqlite:///../bars.db")


def test_a_target_is_the_same_in_every_run_and_names_a_folder() -> None:
    assert _target(_HERE) == "bars-4cd3930bc7"
    odd = _target("sqlite:////tmp/An Odd N\u00e4me, and a Long One.db")
    assert re.fullmatch(r"an-odd-n-me-and-a-lo-[0-9a-f]{10}", odd)


def _target(url: str) -> str:
    sink = SqlSink(url)
    sink.close()
    return sink.target


def test_what_cannot_be_asked_is_a_sink_error(tmp_path: Path) -> None:
    with OHLCVRepository(f"sqlite:///{tmp_path}/bars.db") as repository:
        with pytest.raises(SinkError, match="OverflowError"):
            repository.latest("AAPL", "1m", 10**30)
        with pytest.raises(SinkError, match="UnicodeEncodeError"):
            repository.latest("\ud800", "1m")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("timeout", 0),
        ("timeout", float("inf")),
        ("timeout", float("nan")),
        ("pool_size", 0),
        ("max_overflow", -1),
        ("window", 0),
    ],
)
def test_figures_out_of_range(setting: str, value: float) -> None:
    figures: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigurationError, match=setting):
        SqlSink("sqlite:///bars.db", **figures)


def test_an_engine_must_be_of_a_database_we_know() -> None:
    engine = create_engine("sqlite://")
    engine.dialect.name = "other"
    with pytest.raises(ConfigurationError, match="stored in other"):
        OHLCVRepository(engine)
    engine.dispose()


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    sink = SqlSink(f"sqlite:///{tmp_path}/bars.db")

    assert list(tmp_path.iterdir()) == []
    sink.prepare()
    assert (tmp_path / "bars.db").exists()
    sink.close()
