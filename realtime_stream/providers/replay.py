"""A recording as a provider: the same frames, through the same decoder, at any speed.

**Determinism.** Data time stands still between two records. Each is handed over with a
:class:`~realtime_stream.ports.Checkpoint` behind it, and time goes on only when everybody has dealt
with what came before; so whatever depends on data time (bars that close, ends of gaps) comes out
alike each time, a slow callback slows the replay down, and nothing is ever dropped (with settings
of :meth:`Replay.config`).

**Holes.** Where frames are missing in the middle of a session, because its recorder could not keep
them or a segment is damaged, the replay loses the connection before the hole and has it again
behind it: the hole is reported as a gap, and bars across it are marked as they are after any other.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from realtime_stream.clock import SystemClock
from realtime_stream.config import StreamConfig
from realtime_stream.errors import ConfigurationError, RecordingError
from realtime_stream.market.channels import ALL_SYMBOLS, Subscription
from realtime_stream.market.models import MarketEvent, News
from realtime_stream.ports import Acknowledged, Checkpoint, Refused
from realtime_stream.providers.alpaca.decoder import FrameDecoder
from realtime_stream.providers.alpaca.endpoints import IMPLIED
from realtime_stream.providers.alpaca.frame import EncodedEvents, data_messages
from realtime_stream.recording import Recording, Torn
from realtime_stream.recording.attempts import AttemptReader, Played, time_of
from realtime_stream.recording.clock import ReplayClock
from realtime_stream.recording.records import (
    FrameReceived,
    Lost,
    ServerReported,
    SessionEnded,
    Step,
    SubscriptionsRefused,
    SubscriptionsServed,
    control_of,
    session_end,
)
from realtime_stream.resilience.backoff import ReconnectPolicy
from realtime_stream.resilience.circuit_breaker import BreakerPolicy
from realtime_stream.resilience.failures import SessionEnd, classify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from realtime_stream.clock import Clock
    from realtime_stream.config import Credentials
    from realtime_stream.ports import SessionListener

__all__ = ["Replay", "ReplayAdapter", "ReplayClock", "ReplayInfo"]

_LOGGER: Final = logging.getLogger("realtime_stream")
_NS: Final = 1e9
_DECODERS: Final[dict[str, Callable[[], FrameDecoder]]] = {
    "alpaca": lambda: FrameDecoder("msgpack")
}
_PIECE: Final = 500  # events of a frame that are handed over together, if the inbox has room
_LONGEST_WAIT: Final = 3600.0  # seconds at a time: a thread cannot wait for centuries
_NEVER: Final = 1e12  # seconds


@dataclass(slots=True)
class ReplayInfo:
    """What was played so far.

    Attributes:
        sessions: Sessions begun; one that has a hole counts as two.
        frames: Frames played.
        lost: Frames that are missing in the recording because its recorder had to drop them.
        torn: Segments of which the end is missing, or something in the middle and all behind it.
    """

    sessions: int = 0
    frames: int = 0
    lost: int = 0
    torn: int = 0


class Replay:
    """A recording, ready to be played through a manager.

    That takes its clock, its provider, and settings in which real time decides nothing::

        replay = Replay(Path("bad-day"))
        manager = RealTimeStreamManager(
            replay.config(), provider=replay.provider, data_clock=replay.clock
        )
        manager.on_quote(print, "AAPL")
        with manager:
            replay.finished.wait()

    It leaves the block with :class:`~realtime_stream.StreamFailedError` when the recorded stream
    ended for good, or the recording cannot be read to its end.

    Thread safety: every method may be called from any thread. One manager at a time plays it.

    Attributes:
        recording: The recording.
        clock: Data clock of the manager that plays it.
        finished: Set once nothing more will come: everything has been played and delivered, and
            the manager waits to be stopped; or the manager has failed, because the recorded stream
            ended for good there (what was recorded later is not played) or the recording cannot be
            read on. Cleared at the manager's next start.
        info: What was played so far.
    """

    def __init__(self, path: Path, *, speed: float = math.inf, clock: Clock | None = None) -> None:
        """Open the recording.

        Args:
            path: Folder, or one segment.
            speed: Recorded seconds per second; 1 plays as it was, infinity as fast as possible.
            clock: For the waits in between; tests may bring their own.

        Raises:
            RecordingError: It is not a recording.
            ConfigurationError: ``speed`` is not above 0, or nobody can decode these frames.
        """
        if not speed > 0:
            msg = f"speed: must be above 0, not {speed:g}"
            raise ConfigurationError(msg)
        self.recording = Recording(path)
        header = self.recording.header
        if header.provider not in _DECODERS:
            msg = f"a recording of provider {ascii(header.provider)[:40]} cannot be replayed"
            raise ConfigurationError(msg)
        self.clock = ReplayClock(header.begun_ns)
        self.finished = threading.Event()
        self.info = ReplayInfo()
        self._speed = speed
        self._real_clock = SystemClock() if clock is None else clock
        self._piece = _PIECE
        self._player: ReplayAdapter | None = None  # the newest that has begun to play

    @property
    def piece(self) -> int:
        """Events that are handed over together at the most."""
        return self._piece

    def provider(self) -> ReplayAdapter:
        """A provider that plays from the beginning: what a manager asks for at each start."""
        if self._player is None or self._player.is_disconnected():
            self._rewind()  # a start that joins a run in progress must not touch it
        return ReplayAdapter(self, self._speed, self._real_clock)

    def begin(self, player: ReplayAdapter) -> None:
        """Go back to the start. For the provider, when it begins to play."""
        self._player = player
        self._rewind()

    def _rewind(self) -> None:
        self.clock.restart()
        self.finished.clear()
        self.info = ReplayInfo()

    def config(self, **settings: Any) -> StreamConfig:  # checked by StreamConfig
        """Settings for the manager: the recorded market, and nothing that real time decides.

        Keys are not needed. Between two sessions the manager waits as little as it can, and the
        breaker stays out of the way; silence and late bars are not reported, as they would be
        measured in real time. Frames are handed over in pieces that the inbox has room for.

        Raises:
            ConfigurationError: A setting is not acceptable.
        """
        header = self.recording.header
        defaults: dict[str, Any] = {
            "market": header.market,
            "feed": header.feed,
            "url": "ws://recording.invalid",  # so that a feed of another table is accepted too
            "api_key": "replay",
            "secret_key": "replay",
            "watchlist": (),
            "watchlist_channels": (),
            "reconnect": ReconnectPolicy(initial=0.001, maximum=0.001, jitter=False),
            "breaker": BreakerPolicy(failure_threshold=1_000_000_000),
            "stale_after": 0.0,
            "symbol_stale_after": 0.0,
            "latency_alarm": _NEVER,
        }
        config = StreamConfig(**{**defaults, **settings})
        self._piece = min(_PIECE, config.inbox_capacity)
        return config


class ReplayAdapter:
    """A :class:`~realtime_stream.ports.MarketDataProvider` that plays a recording once.

    Each call of ``run_session`` plays the next recorded session, with what its provider told and
    how it ended. When there is no more, :attr:`Replay.finished` is set and ``disconnect`` waited
    for: within the last session if that was stopped together with its recording, else in the call
    after it. After a failure for good it is set when the manager disconnects, which has then told
    of it. Of what was recorded, that is played which is wanted now. A session that is ended before
    its recorded end is not gone on with.

    Thread safety: :meth:`run_session` is called by one thread; the rest by any.
    """

    def __init__(self, replay: Replay, speed: float, clock: Clock) -> None:
        """Nothing is read yet."""
        self._replay = replay
        self._speed = speed
        self._clock = clock
        self._wake = threading.Event()  # set whenever one of the next four has changed
        self._wanted: frozenset[Subscription] = frozenset()
        self._changed = False
        self._ended = False
        self._disconnected = False
        self._failed = False  # for good: there is no session after this one
        # What follows is touched by run_session alone.
        self._decoder = _DECODERS[replay.recording.header.provider]()
        self._reader: AttemptReader | None = None
        self._origin = 0.0  # real time at which the recording's first moment is played
        self._served: frozenset[Subscription] = frozenset()
        self._serving: Callable[[MarketEvent], bool] = _everything

    def set_wanted(self, wanted: frozenset[Subscription]) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed = True
            self._wake.set()

    def end_session(self) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        self._ended = True
        self._wake.set()

    def disconnect(self) -> None:
        """See :class:`~realtime_stream.ports.MarketDataProvider`."""
        self._disconnected = True
        if self._failed:  # and now it was told and delivered: managers disconnect at the end
            self._replay.finished.set()
        self._wake.set()

    def is_disconnected(self) -> bool:
        """Whether :meth:`disconnect` was called, after which nothing is played any more."""
        return self._disconnected

    def lingering_threads(self) -> tuple[str, ...]:
        """See :class:`~realtime_stream.ports.MarketDataProvider`: there are none."""
        return ()

    def run_session(self, credentials: Credentials, listener: SessionListener) -> SessionEnd:
        """See :class:`~realtime_stream.ports.MarketDataProvider`.

        A recording that cannot be read on ends it for good.
        """
        try:
            end = self._run_session(listener)
        except RecordingError as exc:
            # Not as it is: it would be tried again, and what is left looks like a whole end.
            error = ConfigurationError(f"the replay ends here: {exc}")
            error.__cause__ = exc
            end = SessionEnd(error=error)
        self._failed = not (end.requested or classify(end).retryable)
        return end

    def _run_session(self, listener: SessionListener) -> SessionEnd:
        self._ended = False
        if self._interrupted():
            return SessionEnd(requested=True)
        self._served, self._serving = frozenset(), _everything
        reader = self._opened()
        if not reader.has_another():
            return self._finish(listener)
        self._replay.info.sessions += 1
        for record in reader.records():
            if not (self._await_time(time_of(record)) and self._play(record, listener)):
                break
            if isinstance(record, SessionEnded):
                # What was stopped with its recording stays connected until it is stopped again.
                held = record.requested and not reader.has_another()
                return self._finish(listener) if held else session_end(record)
        return SessionEnd(requested=True)

    def _opened(self) -> AttemptReader:
        if self._reader is None:
            self._replay.begin(self)
            self._reader = AttemptReader(self._replay.recording.records(), self._note_missing)
            self._origin = self._clock.monotonic()
        return self._reader

    def _interrupted(self) -> bool:
        return self._disconnected or self._ended or not self._wanted

    def _await_time(self, at_ns: int) -> bool:
        """Wait until the replay has come to a moment; ``False`` when interrupted."""
        if math.isfinite(self._speed):
            behind = (at_ns - self._replay.recording.header.begun_ns) / _NS / self._speed
            due = self._origin + behind
            while not self._interrupted() and (left := due - self._clock.monotonic()) > 0:
                self._clock.wait(self._wake, min(left, _LONGEST_WAIT))
                self._wake.clear()
        return not self._interrupted()

    def _play(self, record: Played, listener: SessionListener) -> bool:
        """Let time go on to a record, and hand over what it holds; ``False`` when interrupted."""
        if self._changed and self._served:
            self._serve(listener)
        self._replay.clock.advance_to(time_of(record))
        if isinstance(record, FrameReceived):
            return self._play_frame(record, listener)
        # What was due by then comes first; of a frame, its own time sees to that.
        if not self._await_delivery(listener):
            return False
        match record:
            case SubscriptionsServed():
                self._served = frozenset(record.subscriptions)
                self._serve(listener)
            case SubscriptionsRefused():
                refused = frozenset(record.subscriptions) & self._wanted
                if refused:
                    listener.on_control(Refused(refused, record.code, record.text))
            case Step() | ServerReported():
                listener.on_control(control_of(record))
        return self._await_delivery(listener)

    def _play_frame(self, record: FrameReceived, listener: SessionListener) -> bool:
        """Hand a frame over as the session did that was recorded, but for what is not wanted."""
        self._replay.info.frames += 1
        data, told = record.payload, listener.on_control
        messages, piece = data_messages(data), self._replay.piece
        if isinstance(data, bytes) and 0 < messages <= piece and self._serving is _everything:
            encoded = EncodedEvents(data, messages, record.received_ns, self._decoder, told)
            listener.on_frame(encoded, record.received_ns)
            return self._await_delivery(listener)
        decoded = self._decoder.decode(data, record.received_ns)
        events = decoded.events
        if self._serving is not _everything:
            events = [event for event in events if self._serving(event)]
        for reject in decoded.rejects:
            told(reject)
        for begin in range(0, len(events), piece):
            listener.on_frame(events[begin : begin + piece], record.received_ns)
            if not self._await_delivery(listener):
                return False
        return not self._interrupted()

    def _serve(self, listener: SessionListener) -> None:
        """Acknowledge what was served then of what is wanted now; only that is played."""
        self._changed = False
        wanted, served = self._wanted, self._served
        ours = frozenset(
            {s for s in wanted if _covers(served, s)} | {s for s in served if _covers(wanted, s)}
        )
        whole = all(_covers(wanted, s) for s in served)
        self._serving = _everything if whole else lambda event: _brings(wanted, event)
        listener.on_control(Acknowledged(ours))

    def _await_delivery(self, listener: SessionListener) -> bool:
        """Wait until everything handed over was dealt with; ``False`` when interrupted."""
        reached = _Flag(self._wake)
        listener.on_control(Checkpoint(reached.set))
        while not reached.is_set and not self._interrupted():
            self._wake.wait()
            self._wake.clear()
        return not self._interrupted()

    def _finish(self, listener: SessionListener) -> SessionEnd:
        if self._await_delivery(listener):
            self._replay.finished.set()
        while not self._interrupted():
            self._wake.wait()
            self._wake.clear()
        return SessionEnd(requested=True)

    def _note_missing(self, missing: Lost | Torn) -> None:
        if isinstance(missing, Lost):
            self._replay.info.lost += missing.frames
            _LOGGER.warning("realtime_replay_frames_missing", extra={"frames": missing.frames})
        else:
            self._replay.info.torn += 1
            _LOGGER.warning(
                "realtime_replay_segment_torn",
                extra={"segment": missing.segment, "bytes": missing.size},
            )


class _Flag:
    """Set by one thread, which then wakes another that looks."""

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        self._wake.set()


def _everything(_: MarketEvent) -> bool:
    return True


def _base(channel: str) -> str:
    """The channel that brings a channel's events."""
    return IMPLIED.get(channel, channel)


def _covers(subscriptions: frozenset[Subscription], one: Subscription) -> bool:
    return any(
        Subscription(channel, symbol) in subscriptions
        for channel in (one.channel, _base(one.channel))
        for symbol in (one.symbol, ALL_SYMBOLS)
    )


def _brings(wanted: frozenset[Subscription], event: MarketEvent) -> bool:
    symbols = (event.symbol, *event.symbols) if isinstance(event, News) else (event.symbol,)
    return any(_covers(wanted, Subscription(event.channel, symbol)) for symbol in symbols)
