"""A local server that speaks Alpaca's market-data protocol: test a bot without an account."""

from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.generator import SyntheticSession
from realtime_stream.simulator.ledger import Ledger, LedgerEntry
from realtime_stream.simulator.observation import SessionInfo
from realtime_stream.simulator.playback import PlaybackHandle
from realtime_stream.simulator.replay import read_recording
from realtime_stream.simulator.server import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator

__all__ = [
    "SIMULATOR_KEY",
    "SIMULATOR_SECRET",
    "AlpacaSimulator",
    "Faults",
    "Ledger",
    "LedgerEntry",
    "PlaybackHandle",
    "SessionInfo",
    "SyntheticSession",
    "read_recording",
]
