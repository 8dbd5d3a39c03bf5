"""What an answer's status, words and headers mean."""

from __future__ import annotations

from email.message import Message

import pytest

from realtime_stream.providers.alpaca.rest_stream import Answer
from realtime_stream.providers.alpaca.rest_verdict import (
    Verdict,
    message_of,
    verdict_of,
    wait_asked_for,
)

NOW = 1_790_000_000_000_000_000
RECENT = b'{"message":"subscription does not permit querying recent SIP data"}'


def answer(status: int, body: bytes = b"") -> Answer:
    return Answer(status, Message(), body)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b"", Verdict.GOOD),
        (301, b"", Verdict.NEVER),
        (400, b'{"message":"invalid timeframe: 7Weeks"}', Verdict.NEVER),
        (401, b"", Verdict.NEVER),
        (403, b'{"code":40310000,"message":"forbidden."}', Verdict.NEVER),
        (403, RECENT, Verdict.LATER),
        (403, b'{"code":42210000,"message":"Recent SIP data"}', Verdict.LATER),
        (400, RECENT, Verdict.NEVER),
        (404, b"", Verdict.NEVER),
        (408, b"", Verdict.AGAIN),
        (414, b"", Verdict.NEVER),
        (422, b"", Verdict.NEVER),
        (429, b"", Verdict.AGAIN),
        (500, b"", Verdict.AGAIN),
        (503, b"", Verdict.AGAIN),
        (504, b"", Verdict.AGAIN),
    ],
)
def test_the_verdict(status: int, body: bytes, verdict: Verdict) -> None:
    assert verdict_of(answer(status, body)) is verdict


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message":"no code, as usual"}', "no code, as usual"),
        (b'{"message":"two\\nlines"}', "two\\nlines"),
        (b'{"code":1}', ""),
        (b'{"message":5}', ""),
        (b"<html>proxy</html>", ""),
        (b"\xff\xfe", ""),
        (b"[" * 9999, ""),
        (b"", ""),
    ],
)
def test_the_servers_words(body: bytes, message: str) -> None:
    assert message_of(answer(403, body)) == message


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 0.0),
        (429, {"Retry-After": "7"}, 7.0),
        (503, {"Retry-After": "7"}, 7.0),
        (429, {"retry-after": " 7 "}, 7.0),
        (429, {"Retry-After": "7", "X-RateLimit-Reset": "1790000030"}, 7.0),
        (429, {"X-RateLimit-Reset": "1790000030"}, 30.0),
        (429, {"X-RateLimit-Reset": "1790000030", "X-RateLimit-Remaining": "0"}, 30.0),
        (429, {"X-RateLimit-Reset": "1790000030", "X-RateLimit-Remaining": "9"}, 0.0),
        (500, {"X-RateLimit-Reset": "1790000030", "X-RateLimit-Remaining": "0"}, 0.0),
        (429, {"X-RateLimit-Reset": "1789999990"}, 0.0),
        (429, {"X-RateLimit-Reset": "soon"}, 0.0),
        (429, {"Retry-After": "soon"}, 0.0),
        (429, {"Retry-After": "-5"}, 0.0),
        (429, {"Retry-After": "9" * 400}, 0.0),
        (429, {"Retry-After": "Mon, 21 Sep 2026 14:13:25 GMT"}, 5.0),
        (429, {"Retry-After": "Mon, 21 Sep 2026 14:13:25 -0000"}, 5.0),
        (429, {"Retry-After": "Mon, 21 Sep 2020 14:13:25 GMT"}, 0.0),
    ],
)
def test_the_wait_that_the_server_asks_for(
    status: int, headers: dict[str, str], seconds: float
) -> None:
    refusal = answer(status)
    for name, value in headers.items():
        refusal.headers[name] = value
    assert wait_asked_for(refusal, NOW) == seconds
