"""A bare HTTP client: what the tests ask the simulator's history with."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from realtime_stream.simulator import SIMULATOR_KEY, SIMULATOR_SECRET
from tests.unit.simulator.client import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from realtime_stream.simulator import AlpacaSimulator

BARS = "/v2/stocks/bars"
TRADES = "/v2/stocks/trades"
CRYPTO_BARS = "/v1beta3/crypto/us/bars"
CRYPTO_TRADES = "/v1beta3/crypto/us/trades"
KEYS = {"APCA-API-KEY-ID": SIMULATOR_KEY, "APCA-API-SECRET-KEY": SIMULATOR_SECRET}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        body = self.json()
        assert list(body) == ["message"]  # no code
        return self.status, body["message"]


def ask(simulator: AlpacaSimulator, path: str, **parameters: object) -> Answer:
    """One request; one that is answered with less than it was promised raises."""
    return send(simulator, path + ("?" + urlencode(parameters) if parameters else ""))


def send(
    simulator: AlpacaSimulator,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = KEYS,
    timeout: float = TIMEOUT,
) -> Answer:
    """One request, as it is."""
    address = urlsplit(simulator.rest_url).netloc
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request(method, target, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def pages(simulator: AlpacaSimulator, path: str, **parameters: object) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    found: list[dict[str, Any]] = []
    token: str | None = ""
    while token is not None:
        further = {"page_token": token} if token else {}
        answer = ask(simulator, path, **parameters, **further)
        assert answer.status == 200, answer.body
        found.append(answer.json())
        token = found[-1]["next_page_token"]
    return found


def rows(simulator: AlpacaSimulator, path: str, **parameters: object) -> dict[str, list[Any]]:
    """The rows of all pages, per symbol."""
    kind = path.rpartition("/")[2]
    found: dict[str, list[Any]] = {}
    for each in pages(simulator, path, **parameters):
        for symbol, some in each[kind].items():
            found.setdefault(symbol, []).extend(some)
    return found


class Later:
    """What a function returns, or raises, on a thread of its own."""

    def __init__(self, function: Callable[[], Answer]) -> None:
        self._function = function
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._function()
        except OSError as exc:
            self._error = exc

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Answer:
        self._thread.join(TIMEOUT)
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer
