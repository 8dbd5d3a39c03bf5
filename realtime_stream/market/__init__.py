"""What flows: market events and the rules on symbols and channels. Pure, no threads, no I/O."""
