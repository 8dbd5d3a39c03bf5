"""What a sink has on disk: the bars that wait, and those that were given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from realtime_stream.runtime.sink_dead_letters import FILE_NAME, DeadLetterFile
from realtime_stream.runtime.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.market.models import Bar
    from realtime_stream.runtime.sink_reports import SinkReports
    from realtime_stream.runtime.sink_settings import SinkLimits
    from realtime_stream.runtime.spool import Appended, SpoolBatch

__all__ = ["SinkDisk"]

_DAMAGED: Final = "damaged on disk"


class SinkDisk:
    """The spool and the dead-letter file of a sink, whose failures are reported, never raised.

    Thread safety: as :class:`~realtime_stream.runtime.spool.Spool` and
    :class:`~realtime_stream.runtime.sink_dead_letters.DeadLetterFile`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sink: str,
        limits: SinkLimits,
        clock: Clock,
        data_clock: Clock,
        reports: SinkReports,
    ) -> None:
        """Take up what an earlier run has left.

        Raises:
            ConfigurationError: The folder is in use, or cannot be used.
        """
        self._reports = reports
        self._spool = Spool(
            folder, max_bytes=limits.spool_bytes, segment_bytes=limits.segment_bytes
        )
        self._dead_letters = DeadLetterFile(
            folder / FILE_NAME, sink=sink, clock=clock, data_clock=data_clock
        )
        reports.found(self.waiting, self._spool.unreadable)

    @property
    def waiting(self) -> int:
        """Bars that wait here."""
        return self._spool.records

    def append(self, bars: Sequence[Bar]) -> Appended:
        """Put bars here, as many as can be."""
        return self._spool.append(bars)

    def read(self, limit: int) -> SpoolBatch | None:
        """The oldest bars; ``None`` when they cannot be read now.

        They wait here until they are acknowledged.
        """
        try:
            return self._spool.read(limit)
        except OSError as exc:
            self._reports.disk_failed(exc)
            return None

    def acknowledge(self, batch: SpoolBatch) -> None:
        """Bars that were read are dealt with; those that could not be understood are given up."""
        if batch.damaged or batch.lost:
            self._bury(_DAMAGED, len(batch.damaged) + batch.lost, raw=batch.damaged)
        try:
            self._spool.acknowledge(batch)
        except OSError as exc:
            self._reports.disk_failed(exc)

    def bury(self, refused: Mapping[str, Sequence[Bar]]) -> None:
        """Give bars up, for the reasons named."""
        for reason, bars in refused.items():
            if bars:
                self._bury(reason, len(bars), bars=bars)

    def bury_unfit(self, reason: str, bar: Bar) -> None:
        """Write a bar to the dead-letter file that cannot be written as one: in words."""
        words = ascii(msgspec.structs.asdict(bar))
        self._bury(reason, 1, raw=(words.encode(),))

    def _bury(
        self, reason: str, count: int, *, bars: Sequence[Bar] = (), raw: Sequence[bytes] = ()
    ) -> None:
        written = True
        try:
            self._dead_letters.append(reason, bars=bars, raw=raw)
        except OSError:
            written = False
        self._reports.dead_lettered(count, reason, written=written)

    def sync(self) -> None:
        """Wait until what was put here is on the disk itself."""
        try:
            self._spool.sync()
        except OSError as exc:
            self._reports.disk_failed(exc)

    def close(self) -> None:
        """Let go of the folder."""
        self.sync()
        self._spool.close()
        self._flush()
        if self._dead_letters.missing:
            self._reports.letters_lost(self._dead_letters.missing)

    def retry(self) -> float | None:
        """Write lines of bars given up that are kept in memory, if it is time.

        Returns:
            Seconds until there are some to write; ``None`` when none is kept.
        """
        if self._dead_letters.retry_in() == 0:
            self._flush()
        return self._dead_letters.retry_in()

    def _flush(self) -> None:
        try:
            self._dead_letters.flush()
        except OSError as exc:
            self._reports.disk_failed(exc)
