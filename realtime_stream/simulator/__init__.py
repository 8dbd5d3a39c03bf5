"""A local server that speaks Alpaca's market-data protocol: test a bot without an account."""

from realtime_stream.simulator.fault_player import FaultScriptHandle
from realtime_stream.simulator.fault_script import Fault, fault
from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.garbage import GARBAGE, Garbage
from realtime_stream.simulator.generator import SyntheticSession
from realtime_stream.simulator.history import History
from realtime_stream.simulator.ledger import Ledger, LedgerEntry
from realtime_stream.simulator.observation import SessionInfo
from realtime_stream.simulator.playback import PlaybackHandle
from realtime_stream.simulator.replay import read_recording
from realtime_stream.simulator.server import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator

__all__ = [
    "GARBAGE",
    "SIMULATOR_KEY",
    "SIMULATOR_SECRET",
    "AlpacaSimulator",
    "Fault",
    "FaultScriptHandle",
    "Faults",
    "Garbage",
    "History",
    "Ledger",
    "LedgerEntry",
    "PlaybackHandle",
    "SessionInfo",
    "SyntheticSession",
    "fault",
    "read_recording",
]
