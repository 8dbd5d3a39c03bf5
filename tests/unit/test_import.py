"""What `import realtime_stream` must not do, seen from a process that does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_PROBE = """
import json, os, sys, threading

seen = {"opened": [], "sockets": []}

def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        seen["opened"].append(os.path.abspath(arguments[0]))
    elif event.startswith("socket."):
        seen["sockets"].append(event)

sys.addaudithook(audit)
import realtime_stream

tasks = "/proc/self/task"
seen["tasks"] = len(os.listdir(tasks)) if os.path.isdir(tasks) else 1
seen["threads"] = [thread.name for thread in threading.enumerate()]
seen["modules"] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(seen))
"""

_HEAVY = {"alpaca", "numpy", "pandas"}
_EXTRAS = {"fastapi", "prometheus_client", "redis", "sqlalchemy", "uvicorn"}


@pytest.fixture
def after_import(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / ".env").write_text("ALPACA_API_KEY=must-not-be-read\n", encoding="utf-8")
    # Coverage would measure itself here: it opens files, and modules of its own.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=30,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_import_starts_no_thread(after_import: dict[str, Any]) -> None:
    assert after_import["threads"] == ["MainThread"]
    assert after_import["tasks"] == 1


def test_import_opens_no_socket(after_import: dict[str, Any]) -> None:
    assert after_import["sockets"] == []


def test_import_reads_no_settings(after_import: dict[str, Any], tmp_path: Path) -> None:
    assert after_import["opened"], "the probe saw no file opened at all, not even a module"
    assert [path for path in after_import["opened"] if path.startswith(str(tmp_path))] == []


def test_import_loads_neither_sdk_nor_extras(after_import: dict[str, Any]) -> None:
    loaded = set(after_import["modules"])
    assert "realtime_stream" in loaded
    assert loaded.isdisjoint(_HEAVY | _EXTRAS)
