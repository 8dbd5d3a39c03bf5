"""How a bar compares with those before it in its series.

``spread_ratio`` is the bar's spread divided by the mean spread of the bars before it, at most so
many as the window is long; ``volume_ratio`` the same of the volume. They are rounded to 4 places,
and stop at 999999.9999. Without bars before it, or when their mean is 0, there is no ratio.

The window of each series is kept in memory. What a batch needs and memory has not, at first and for
bars that are older than the window, is read with one limited query a series. Ratios of bars that
are stored already do not change when an older one comes or is updated.

Within a batch the order of arrival does not matter, only that of time. Of bars that lie between
those of a batch, the ones that are in memory count.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from realtime_stream.sinks.sql.tables import RATIO_PLACES, WIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from realtime_stream.sinks.sql.rows import Entry, Series

__all__ = ["RatioWindows", "Window"]

_PLACES: Final = Decimal(1).scaleb(-RATIO_PLACES)
_QUOTIENT: Final = Context(prec=20)  # far more than is kept of a ratio
_MOST: Final = Decimal("999999.9999")
_KEPT: Final = 2  # windows of a series in memory, so that an updated bar finds the one before it
_MAX_SERIES: Final = 20_000  # in memory; the one not seen for longest is read again when it comes


Sums: TypeAlias = tuple[Decimal, Decimal]
Load: TypeAlias = "Callable[[Series, int | None, int], list[Entry]]"
Ratios: TypeAlias = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Window:
    """The newest bars of a series, in order of time.

    Attributes:
        entries: Those bars.
        whole: Whether nothing of the series is older.
        sums: Spreads and volumes of the last of them, as many as a bar is compared with.
    """

    entries: tuple[Entry, ...]
    whole: bool
    sums: Sums


class RatioWindows:
    """The windows of all series.

    Thread safety: none; its owner calls it from one thread at a time.
    """

    def __init__(self, size: int) -> None:
        """Know nothing yet.

        Args:
            size: Bars that a bar is compared with; above 0.
        """
        self._size = size
        self._windows: dict[Series, Window] = {}

    def rate(
        self, series: Series, rows: Sequence[Entry], load: Load
    ) -> tuple[list[Ratios], Window]:
        """The ratios of bars of one series, and the window after them; nothing is kept yet.

        Args:
            series: Symbol and timeframe.
            rows: Bars of different starts, in order of time; at least one.
            load: Reads the last bars stored: of the series, before the nanosecond if one is given,
                at most so many, in order of time.
        """
        known = self._windows.get(series) or self._newest(series, load)
        first = rows[0].timestamp_ns
        place = bisect_left(known.entries, first, key=_start)
        before, later = known.entries[:place], known.entries[place:]
        enough = known.whole or place >= self._size
        if not enough:
            before = tuple(load(series, first, self._size))
        sums = known.sums if enough and not later else _sums(before[-self._size :])
        entries = _merged(before, later, rows)
        ratios, sums = _slide(entries, len(before), sums, rows, self._size)
        if enough:
            return ratios, self._window(entries, sums, whole=known.whole)
        return ratios, self._overtaken(known, entries)

    def _newest(self, series: Series, load: Load) -> Window:
        """What a series that is not known (any more) has."""
        kept = _KEPT * self._size
        entries = tuple(load(series, None, kept))
        return Window(entries, len(entries) < kept, _sums(entries[-self._size :]))

    def _overtaken(self, known: Window, entries: Sequence[Entry]) -> Window:
        """The window after bars that are older than it."""
        # Between what was loaded and what was known there may be bars that nobody has read.
        read = entries[bisect_left(entries, known.entries[0].timestamp_ns, key=_start) :]
        return self._window(read, _sums(read[-self._size :]), whole=False)

    def _window(self, entries: Sequence[Entry], sums: Sums, *, whole: bool) -> Window:
        kept = _KEPT * self._size
        return Window(tuple(entries[-kept:]), whole and len(entries) <= kept, sums)

    def keep(self, windows: Iterable[tuple[Series, Window]]) -> None:
        """Take the windows of what has been stored."""
        for series, window in windows:
            self._windows.pop(series, None)  # so that it moves to the end
            self._windows[series] = window
        while len(self._windows) > _MAX_SERIES:
            del self._windows[next(iter(self._windows))]


def _start(entry: Entry) -> int:
    return entry.timestamp_ns


def _merged(before: Sequence[Entry], later: Sequence[Entry], rows: Sequence[Entry]) -> list[Entry]:
    """All of them in order of time; of two with one start, the one that wins in the table."""
    if not later:
        return [*before, *rows]
    best = {entry.timestamp_ns: entry for entry in later}
    for entry in rows:
        rival = best.get(entry.timestamp_ns)
        if rival is None or entry.rank >= rival.rank:
            best[entry.timestamp_ns] = entry
    return [*before, *sorted(best.values(), key=_start)]


def _sums(entries: Sequence[Entry]) -> Sums:
    spreads = volumes = Decimal(0)
    for entry in entries:
        spreads = WIDE.add(spreads, entry.spread)
        volumes = WIDE.add(volumes, entry.volume)
    return spreads, volumes


def _slide(
    entries: Sequence[Entry], end: int, sums: Sums, rows: Sequence[Entry], size: int
) -> tuple[list[Ratios], Sums]:
    """The ratios of each row, and the sums of the last entries.

    Args:
        entries: All bars, in order of time.
        end: How many of them come before the first row.
        sums: Of the last of those, at most ``size``.
        rows: Bars to rate; each start is among the entries.
        size: Bars to compare with.

    The sums are exact, so that they may move along for ever.
    """
    spreads, volumes = sums
    start = max(end - size, 0)
    found: list[Ratios] = []
    for row in (*rows, None):
        while end < len(entries) and (row is None or entries[end].timestamp_ns < row.timestamp_ns):
            spreads = WIDE.add(spreads, entries[end].spread)
            volumes = WIDE.add(volumes, entries[end].volume)
            end += 1
            if end - start > size:
                spreads = WIDE.subtract(spreads, entries[start].spread)
                volumes = WIDE.subtract(volumes, entries[start].volume)
                start += 1
        if row is not None:
            number = Decimal(end - start)
            found.append((_ratio(row.spread, spreads, number), _ratio(row.volume, volumes, number)))
    return found, (spreads, volumes)


def _ratio(value: Decimal, total: Decimal, number: Decimal) -> str | None:
    if not total:
        return None
    ratio = _QUOTIENT.divide(WIDE.multiply(value, number), total)
    return str(_QUOTIENT.quantize(ratio, _PLACES) if ratio < _MOST else _MOST)
