"""Recordings: what a provider received, byte for byte, kept for a replay.

A recording is a folder of segments; see :mod:`realtime_stream.recording.format` for their layout.
It holds frames of market data with the times they were received at, and what the provider told
about its sessions; never a message of ours, so never a key.
"""

from realtime_stream.recording.reader import Recording, Torn
from realtime_stream.recording.recorder import Recorder, RecorderLimits
from realtime_stream.recording.tap import SessionTap, TappedListener

__all__ = [
    "Recorder",
    "RecorderLimits",
    "Recording",
    "SessionTap",
    "TappedListener",
    "Torn",
]
