"""Bars as a pandas DataFrame; loaded only when somebody asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from realtime_stream.market.models import Bar

__all__ = ["data_frame"]

_FIGURES: Final = ("open", "high", "low", "close", "volume", "vwap")


def data_frame(bars: Sequence[Bar]) -> pd.DataFrame:
    """One row per bar, indexed by its start in UTC."""
    starts = pd.DatetimeIndex(
        pd.to_datetime([bar.timestamp_ns for bar in bars], unit="ns", utc=True), name="timestamp"
    )
    columns = {
        name: [None if (value := getattr(bar, name)) is None else float(value) for bar in bars]
        for name in _FIGURES
    }
    frame = pd.DataFrame(columns, index=starts, dtype="float64")
    counts = [bar.trade_count for bar in bars]
    frame["trade_count"] = pd.array(counts, dtype="Int64")
    return frame
