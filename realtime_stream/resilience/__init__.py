"""What to do when things fail: classify, wait, and stop trying. Pure but for the breaker's lock."""
