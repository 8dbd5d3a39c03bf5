"""What the process takes, over the day: memory, threads and file descriptors."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Growth", "Sample", "Sampler", "growth", "take"]

_MIB: Final = 2**20
_WARM_UP: Final = 0.2  # share of the samples that is left out: caches, pools and imports fill
_SECONDS_PER_HOUR: Final = 3600.0
_FEWEST: Final = 4  # samples from which anything is said about growth


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at this process.

    Attributes:
        seconds: Real seconds since the sampler began.
        rss_mib: Resident memory; where the system does not tell, the highest so far.
        threads: Threads, those of other libraries included where the system tells.
        descriptors: Open file descriptors; 0 where the system does not tell.
    """

    seconds: float
    rss_mib: float
    threads: int
    descriptors: int


def take(seconds: float = 0.0) -> Sample:
    """Look at this process now."""
    return Sample(
        seconds,
        _rss_mib(),
        _entries("/proc/self/task") or threading.active_count(),
        _entries("/proc/self/fd") or _entries("/dev/fd"),
    )


def _rss_mib() -> float:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024


def _entries(folder: str) -> int:
    return len(os.listdir(folder)) if Path(folder).exists() else 0  # one count, no paths


class Sampler:
    """Looks at regular intervals, on a thread of its own.

    Garbage is collected before each look: what a session leaves behind has cycles, and would
    otherwise wait for the interpreter's next full collection, which may be hours away.

    Thread safety: used by one thread; its own one appends to the samples.
    """

    def __init__(self, interval: float) -> None:
        """Begin; one look every ``interval`` seconds."""
        self.samples: list[Sample] = []
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-sampler", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(self._interval):
            gc.collect()
            self.samples.append(take(time.monotonic() - began))


@dataclass(frozen=True, slots=True)
class Growth:
    """How memory and threads developed after the warm-up.

    Attributes:
        first_mib: Memory at the end of the warm-up.
        last_mib: Memory in the last sample.
        peak_mib: The highest.
        mib_per_hour: Slope of the least-squares line, per real hour.
        late_mib_per_hour: The same over the last half of these samples: a leak goes on, an
            allocator's pools are full some time.
        threads_least: Fewest threads seen.
        threads_most: Most threads seen.
        threads_grown: Median of the last quarter of the samples less that of the first.
    """

    first_mib: float
    last_mib: float
    peak_mib: float
    mib_per_hour: float
    late_mib_per_hour: float
    threads_least: int
    threads_most: int
    threads_grown: float


def growth(samples: Sequence[Sample]) -> Growth | None:
    """What the samples say; ``None`` when there are too few."""
    used = samples[int(len(samples) * _WARM_UP) :]
    if len(used) < _FEWEST:
        return None
    memory = [sample.rss_mib for sample in used]
    threads = [sample.threads for sample in used]
    quarter = len(used) // 4
    return Growth(
        first_mib=memory[0],
        last_mib=memory[-1],
        peak_mib=max(memory),
        mib_per_hour=_slope(used),
        late_mib_per_hour=_slope(used[len(used) // 2 :]),
        threads_least=min(threads),
        threads_most=max(threads),
        threads_grown=statistics.median(threads[-quarter:]) - statistics.median(threads[:quarter]),
    )


def _slope(samples: Sequence[Sample]) -> float:
    """MiB per hour."""
    slope, _ = statistics.linear_regression(
        [sample.seconds for sample in samples], [sample.rss_mib for sample in samples]
    )
    return slope * _SECONDS_PER_HOUR
