"""Sources of market data behind one protocol; heavy ones are imported at the first start only."""
