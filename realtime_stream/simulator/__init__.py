"""A local server that speaks Alpaca's stream protocol, with faults on demand.

For tests of this library and of bots that use it; nothing here needs an account or a network.
"""

from realtime_stream.simulator.faults import Faults
from realtime_stream.simulator.generator import SyntheticSession
from realtime_stream.simulator.ledger import Ledger, LedgerEntry
from realtime_stream.simulator.playback import PlaybackHandle
from realtime_stream.simulator.replay import read_recording
from realtime_stream.simulator.server import SIMULATOR_KEY, SIMULATOR_SECRET, AlpacaSimulator
from realtime_stream.simulator.session import SessionInfo

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
