"""Carries one script out."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.abuse.finale import finish
from tests.abuse.steps import Steps
from tests.abuse.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.abuse.scripts import Script

__all__ = ["run"]

_HECTIC: Final = 1e-6  # seconds between two changes of threads; usually 5 ms


def run(script: Script) -> None:
    """Carry ``script`` out.

    Raises:
        AssertionError: Something does not hold.
    """
    before = _open_files()
    with _no_thread_dies() as died, _switching(script):
        world = World(script)
        try:
            Steps(world).play()
            finish(world)
        finally:
            world.close()
    assert not died, died
    left = _open_files() - before
    assert not left, left


def _open_files() -> Counter[str]:
    """Sockets and pollers of this process, where the system tells."""
    found: Counter[str] = Counter()
    folder = Path("/proc/self/fd")
    for link in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # the one that lists them
            found[str(link.readlink()).partition("[")[0]] += 1
    return Counter({kind: found[kind] for kind in ("socket:", "anon_inode:")})


@contextlib.contextmanager
def _switching(script: Script) -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_HECTIC if script.hectic else usual)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


@contextlib.contextmanager
def _no_thread_dies() -> Iterator[list[str]]:
    died: list[str] = []
    hook = threading.excepthook
    threading.excepthook = lambda args: died.append(f"{args.thread} died of {args.exc_value!r}")
    try:
        yield died
    finally:
        threading.excepthook = hook
