"""The public names, pinned: one that comes or goes is a change of the interface."""

from __future__ import annotations

import importlib.metadata

import pytest

import realtime_stream

PUBLIC = (
    "AlwaysOpen",
    "AuthenticationError",
    "BackfillEvent",
    "BackfillInfo",
    "Bar",
    "BarsInfo",
    "BookLevel",
    "BreakerInfo",
    "BreakerPolicy",
    "BreakerState",
    "CallbackContextError",
    "CallbackExitError",
    "Channel",
    "Clock",
    "ConfigurationError",
    "ConnectionCircuitBreaker",
    "ConnectionEvent",
    "ConnectionLimitError",
    "ConnectionState",
    "Credentials",
    "DataProviderError",
    "DeadLetter",
    "DisconnectEvent",
    "ErrorEvent",
    "EventStream",
    "Failure",
    "FailureKind",
    "FakeClock",
    "ForkedProcessError",
    "Gap",
    "GapEntry",
    "HandshakeError",
    "HandshakeTimeoutError",
    "HistoryError",
    "HistoryPage",
    "HistoryProvider",
    "HistoryRefusedError",
    "HistoryRequest",
    "HistoryUnavailableError",
    "IllegalTransitionError",
    "Imbalance",
    "InsufficientSubscriptionError",
    "InvalidSymbolError",
    "LULD",
    "LagInfo",
    "LatencyInfo",
    "LifecycleError",
    "LifecycleState",
    "Market",
    "MarketCalendar",
    "MarketDataProvider",
    "MarketEvent",
    "NameResolutionError",
    "NeverOpen",
    "News",
    "OrderBook",
    "ProtocolError",
    "Quote",
    "RateLimitError",
    "RealTimeStreamManager",
    "ReconnectPolicy",
    "RecordingError",
    "RecordingInfo",
    "Registration",
    "RegularHours",
    "RejectedEvent",
    "RejectedMessage",
    "ScaledClock",
    "ServerError",
    "SessionCalendar",
    "SessionClosedError",
    "SessionEnd",
    "SessionListener",
    "ShutdownRequest",
    "Sink",
    "SinkError",
    "SinkInfo",
    "SinkRejectedError",
    "SlowClientError",
    "StaleDataError",
    "StaleEvent",
    "StartTimeoutError",
    "StateChange",
    "Status",
    "StopTimeoutError",
    "StreamConfig",
    "StreamFailedError",
    "StreamStoppedError",
    "StreamingError",
    "Subscription",
    "SubscriptionRefusedError",
    "SystemClock",
    "Trade",
    "TradeCancel",
    "TradeCorrection",
    "TradingStatus",
    "UnsupportedChannelError",
    "ValidationPolicy",
    "WSConnectionError",
    "WebSocketError",
    "__version__",
    "classify",
    "shutdown_on_signals",
)


def test_the_public_names_are_these() -> None:
    assert tuple(sorted(realtime_stream.__all__)) == tuple(sorted(PUBLIC))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(realtime_stream, name) is not None


def test_the_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("realtime-stream") == realtime_stream.__version__
