"""Every snippet of the README and the docs does what the page says.

The Python blocks of a page are one script. It runs in a process of its own, with keys and address
of a simulator in its environment that plays a session with the first subscription. Four comments,
invisible to the reader, say what a page needs beyond that:

- ``<!-- no-run: reason -->`` before a block: it is compiled, not run;
- ``<!-- setup`` ... ``-->``: Python that the page takes for granted;
- ``<!-- file: name`` ... ``-->``: a file in the script's working directory;
- ``<!-- simulator: market feed -->``: another stream than ``stocks iex``.

Of console blocks the commands are checked: make targets, and options of ``realtime-stream``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from realtime_stream.simulator import (
    SIMULATOR_KEY,
    SIMULATOR_SECRET,
    AlpacaSimulator,
    SyntheticSession,
)

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = [
    *(path for name in ("README.md", "CONTRIBUTING.md") if (path := _ROOT / name).is_file()),
    *sorted((_ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n`]*\n(?P<body>.*?)^(?P=indent)``` *$", re.M | re.S
)
_COMMENT = re.compile(r"<!-- (?P<kind>[\w-]+):? ?(?P<rest>.*?)-->", re.S)
_NO_RUN = re.compile(r"<!-- no-run: \S[^>]*-->\s*\Z")

_SYMBOLS = {"crypto": ("BTC/USD", "ETH/USD")}
_STOCKS = ("AAPL", "MSFT", "NVDA", "SPY", "TSLA")
_SPEED = 60.0  # a minute bar every second
_SCRIPT_LIMIT = 60.0  # seconds
# Commands of others that a page may name; what they do is not ours to check.
_OTHERS = {
    "apt-get",
    "cd",
    "cp",
    "curl",
    "docker",
    "export",
    "git",
    "kill",
    "pip",
    "python",
    "sudo",
}


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int  # of its first line of code in the page, from 1
    runs: bool


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            match["language"],
            textwrap.dedent(match["body"]),
            _line_of(text, match.start("body")),
            runs=_NO_RUN.search(text, 0, match.start()) is None,
        )
        for match in _FENCE.finditer(text)
    ]
    found += [
        Block("python", match["rest"].lstrip("\n"), _line_of(text, match.start()) + 1, runs=True)
        for match in _comments(text, "setup")
    ]
    return sorted(found, key=lambda block: block.line)


def _comments(text: str, kind: str) -> list[re.Match[str]]:
    return [match for match in _COMMENT.finditer(text) if match["kind"] == kind]


def _pages_with(*languages: str) -> list[object]:
    return [
        pytest.param(page, id=str(page.relative_to(_ROOT)))
        for page in _PAGES
        if any(block.language in languages for block in _blocks(page))
    ]


def _script(blocks: list[Block]) -> str:
    """The blocks in their places, so that a traceback's line number is the page's."""
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def _run(script: Path, url: str) -> None:
    environment = os.environ | {
        "ALPACA_API_KEY": SIMULATOR_KEY,
        "ALPACA_SECRET_KEY": SIMULATOR_SECRET,
        "ALPACA_STREAM_URL": url,
    }
    try:
        done = subprocess.run(
            [sys.executable, script.name],
            cwd=script.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SCRIPT_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        pytest.fail(f"the page's script did not end within {_SCRIPT_LIMIT} s\n{exc.output!r}")
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(_SCRIPT_LIMIT + 30)
@pytest.mark.parametrize("page", _pages_with("python", "py"))
def test_python_runs(page: Path, tmp_path: Path) -> None:
    blocks = [block for block in _blocks(page) if block.language in {"python", "py"}]
    for block in blocks:
        compile("\n" * (block.line - 1) + block.code, str(page), "exec")
    running = [block for block in blocks if block.runs]
    if not running:
        return
    text = page.read_text(encoding="utf-8")
    for match in _comments(text, "file"):
        name, _, content = match["rest"].partition("\n")
        (tmp_path / name.strip()).write_text(content, encoding="utf-8")
    script = tmp_path / (page.stem + "_page.py")
    script.write_text(_script(running), encoding="utf-8")
    asked = _comments(text, "simulator")
    market, feed = asked[0]["rest"].split() if asked else ("stocks", "iex")
    session = SyntheticSession(
        7,
        _SYMBOLS.get(market, _STOCKS),
        start=datetime.now(UTC) - timedelta(minutes=384),  # market time must not run ahead of ours
        minutes=390,
        quotes_per_minute=120,
        trades_per_minute=30,
    )
    with AlpacaSimulator() as simulator:
        simulator.play(session, speed=_SPEED, market=market, wait_for_subscription=True)
        _run(script, simulator.url(market, feed))


def _commands(block: Block) -> list[list[str]]:
    """The commands of a block; where it shows prompts, the rest is output."""
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    split = (shlex.split(line, comments=True) for line in lines)
    # VARIABLE=value before a command
    bare = (words[next((i for i, w in enumerate(words) if "=" not in w), 0) :] for words in split)
    return [words for words in bare if words]


@cache
def _help_of(*subcommand: str) -> str:
    call = (
        "import sys; from realtime_stream.cli import main; sys.argv[0] = 'realtime-stream'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", call, *subcommand, "--help"],
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _check_own(words: list[str]) -> None:
    subcommand = [word for word in words[1:2] if not word.startswith("-")]
    offered = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", _help_of(*subcommand)))
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert options <= offered, f"{' '.join(words)}: unknown {sorted(options - offered)}"


def _check_make(words: list[str]) -> None:
    makefile = (_ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words[1:]:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"no make target {target!r}"


@pytest.mark.parametrize("page", _pages_with("console", "bash", "sh"))
def test_commands_exist(page: Path) -> None:
    for block in _blocks(page):
        if block.language not in {"console", "bash", "sh"}:
            continue
        for words in _commands(block):
            if words[0] == "realtime-stream":
                _check_own(words)
            elif words[0] == "make":
                _check_make(words)
            elif not words[0].startswith(("./", ".ci/", ".venv/")):
                assert words[0] in _OTHERS, f"line {block.line}: unknown command {words[0]!r}"
