"""The REST side: history over plain HTTP, on the port of the streams."""

from __future__ import annotations

import time
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from websockets.datastructures import Headers
from websockets.http11 import Response

from realtime_stream.simulator.endpoints import ENDPOINTS
from realtime_stream.simulator.history import END_OF_TIME
from realtime_stream.simulator.rest_page import page
from realtime_stream.simulator.rest_query import parse_query, route_of
from realtime_stream.simulator.upgrade import credentials_of
from realtime_stream.simulator.wire import encode_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from websockets.http11 import Request

    from realtime_stream.simulator.connection import Connection
    from realtime_stream.simulator.history import History
    from realtime_stream.simulator.host import Rules
    from realtime_stream.simulator.observation import Observation
    from realtime_stream.simulator.rest_fault_state import Quota, RestFaultState
    from realtime_stream.simulator.rest_query import Query, Route

__all__ = ["RestDesk", "is_rest"]

# Bytes of path and query; one of about 10,000 was refused by Alpaca. Beyond 8,192 websockets
# refuses by itself: since 17 with 414, too, and before by closing the connection.
_MAX_TARGET: Final = 8_000
_JSON: Final = "application/json; charset=utf-8"
_HTML: Final = {"Content-Type": "text/html; charset=utf-8"}
_PAGE_FOR_PEOPLE: Final = b"<html><body><h1>Please try again later</h1></body></html>\n"
_MESSAGES: Final = {
    HTTPStatus.UNAUTHORIZED: "unauthorized.",
    HTTPStatus.NOT_FOUND: "endpoint not found.",
    HTTPStatus.TOO_MANY_REQUESTS: "too many requests.",
}
_RECENT: Final = "subscription does not permit querying recent SIP data"
_NOT_IN_PLAN: Final = "subscription does not permit querying this feed"


def is_rest(request: Request) -> bool:
    """Whether it is none for a stream: neither an upgrade nor to a stream's path."""
    return "Upgrade" not in request.headers and _path(request) not in ENDPOINTS


class _RefusedError(Exception):
    """A request is answered with an error.

    Attributes:
        status: HTTP status.
        text: What the body says.
        headers: Headers besides the usual ones.
    """

    def __init__(
        self, status: HTTPStatus, text: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = _MESSAGES.get(status, status.phrase.lower()) if text is None else text
        self.headers = headers or {}


class RestDesk:
    """Answers requests for history.

    Thread safety: used by the simulator's thread only.
    """

    def __init__(
        self,
        rules: Rules,
        faults: RestFaultState,
        observation: Observation,
        *,
        history: History,
        delay: Callable[[Connection, Callable[[], float]], Awaitable[None]],
    ) -> None:
        """Args: ``delay`` waits so many seconds, at most as long as the connection lives."""
        self._rules = rules
        self._faults = faults
        self._observation = observation
        self._history = history
        self._delay = delay

    async def serve(self, connection: Connection, request: Request) -> Response | None:
        """The answer; ``None`` when the connection is gone instead."""
        self._observation.rest_requested(request.path)
        if self._faults.next_silence():
            await connection.wait_closed()
            return None
        known = self._answer(request) if self._faults.outdated else None
        await self._delay(connection, lambda: self._faults.delay)
        response = known or self._answer(request)
        self._observation.rest_answered(response.status_code)
        if not self._faults.next_drop():
            return response
        data = response.serialize()
        connection.transport.write(data[: len(data) - len(response.body) // 2])
        connection.transport.close()  # once that is written
        await connection.wait_closed()
        return None

    def _answer(self, request: Request) -> Response:
        quota = self._faults.next_quota()
        headers = {
            "X-RateLimit-Limit": str(quota.limit),
            "X-RateLimit-Remaining": str(quota.remaining),
            "X-RateLimit-Reset": str(quota.reset),
        }
        try:
            self._refuse_on_demand(quota)
            body = self._page(request)
        except _RefusedError as exc:
            error = encode_object({"message": exc.text}, "json")
            return _response(exc.status, error, {**headers, **exc.headers})
        garbage = self._faults.next_garbage()
        if garbage == "text":
            return _response(HTTPStatus.OK, _PAGE_FOR_PEOPLE, {**headers, **_HTML})
        return _response(HTTPStatus.OK, body[: len(body) // 2] if garbage else body, headers)

    def _refuse_on_demand(self, quota: Quota) -> None:
        rule = self._faults.next_error()
        if rule is not None:
            headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after:g}"}
            raise _RefusedError(rule.status, rule.message, headers)
        if quota.exceeded:
            raise _RefusedError(HTTPStatus.TOO_MANY_REQUESTS)

    def _page(self, request: Request) -> bytes:
        self._check_credentials(request)
        route = route_of(_path(request))
        if route is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND)
        # Until 16, websockets did not name the method, and let nothing but GET come so far.
        if getattr(request, "method", "GET") != "GET":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        if len(request.path) > _MAX_TARGET:
            raise _RefusedError(HTTPStatus.REQUEST_URI_TOO_LONG)
        return page(self._query(route, request), self._history, self._faults.lag_ns)

    def _check_credentials(self, request: Request) -> None:
        key, secret = credentials_of(request.headers) or ("", "")
        if key not in self._rules.credentials or self._rules.credentials[key] != secret:
            raise _RefusedError(HTTPStatus.UNAUTHORIZED)

    def _query(self, route: Route, request: Request) -> Query:
        now_ns = self._history.now_ns(route.market.name) or time.time_ns()
        try:
            query = parse_query(route, request.path.partition("?")[2], now_ns)
        except ValueError as exc:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(exc)) from exc
        if query.feed in self._rules.refused_feeds:
            raise _RefusedError(HTTPStatus.FORBIDDEN, _NOT_IN_PLAN)
        recent_ns = self._faults.recent_ns(query.feed) if route.market.name == "stocks" else 0
        if not recent_ns:
            return query
        if query.end_ns == END_OF_TIME:
            return replace(query, end_ns=now_ns - recent_ns)
        if query.end_ns > now_ns - recent_ns:
            raise _RefusedError(HTTPStatus.FORBIDDEN, _RECENT)
        return query


def _path(request: Request) -> str:
    return request.path.partition("?")[0]


def _response(status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> Response:
    usual = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        "Content-Length": str(len(body)),
        "Content-Type": _JSON,
    }
    return Response(status.value, status.phrase, Headers({**usual, **headers}), body)
