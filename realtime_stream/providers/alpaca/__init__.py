"""Alpaca market data over the official SDK. Import the adapter from its own module."""
