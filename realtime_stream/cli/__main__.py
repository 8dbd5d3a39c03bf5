"""``python -m realtime_stream.cli``."""

from realtime_stream.cli.app import main

main()
