"""Bars as a pandas DataFrame."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd

from realtime_stream.runtime.frames import data_frame
from tests.unit.test_history_desk import START, minute

COLUMNS = ["open", "high", "low", "close", "volume", "vwap", "trade_count"]


def test_one_row_per_bar_by_its_start() -> None:
    frame = data_frame([minute(0, "10.25"), minute(1, "11", trade_count=None, vwap=None)])
    assert list(frame.columns) == COLUMNS
    assert [str(kind) for kind in frame.dtypes] == [*["float64"] * 6, "Int64"]
    assert frame.index.name == "timestamp"
    assert str(frame.index.tz) == "UTC"
    assert frame.index[0] == pd.Timestamp(START, unit="ns", tz="UTC")
    assert frame["close"].tolist() == [10.25, 11.0]
    assert frame["trade_count"].tolist() == [5, pd.NA]
    assert pd.isna(frame["vwap"].iloc[1])


def test_no_bars_make_an_empty_frame_of_the_same_shape() -> None:
    frame = data_frame([])
    assert list(frame.columns) == COLUMNS
    assert [str(kind) for kind in frame.dtypes] == [*["float64"] * 6, "Int64"]
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"
    assert len(frame) == 0


def test_nanoseconds_are_kept_in_the_index() -> None:
    frame = data_frame([minute(0, timestamp_ns=START + 1), minute(0, timestamp_ns=START + 2)])
    assert [stamp.value for stamp in frame.index] == [START + 1, START + 2]


def test_figures_are_floats_whatever_their_digits() -> None:
    frame = data_frame([minute(0, volume=Decimal("1000.000000001"))])
    assert frame["volume"].iloc[0] == 1000.000000001
