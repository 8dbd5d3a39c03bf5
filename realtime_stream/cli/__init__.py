"""The ``realtime-stream`` command."""

from realtime_stream.cli.app import main

__all__ = ["main"]
