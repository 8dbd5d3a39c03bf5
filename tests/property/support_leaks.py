"""Finding a secret, in whole or in part, in whatever text an object or a log gives away."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import logging
import pickle
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["Everything", "Finder", "chain", "views"]

_RUN: Final = 6  # characters in a row that must not be seen
_BETWEEN_BYTES: Final = re.compile(r"\\x|0x|[\s:,\-]")


class Finder:
    """Looks for every run of six characters of some secrets: plain, in hex, and in base64."""

    def __init__(self, *secrets: str) -> None:
        runs = {s[i : i + _RUN] for s in secrets for i in range(len(s) - _RUN + 1)}
        self._plain = {run.lower() for run in runs}
        self._hex = {run.encode().hex() for run in runs}
        self._base64 = {form for run in runs for form in _in_base64(run.encode())}

    def __call__(self, text: str) -> set[str]:
        """What of it is in the text, in whatever case and with whatever between hex digits."""
        lower = text.lower()
        dense = _BETWEEN_BYTES.sub("", lower)
        standard = text.replace("-", "+").replace("_", "/")
        return (
            {run for run in self._plain if run in lower or run in dense}
            | {form for form in self._hex if form in dense}
            | {form for form in self._base64 if form in text or form in standard}
        )


def _in_base64(run: bytes) -> Iterable[str]:
    """The characters that stand for these bytes and nothing else, at each place of a triplet."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + run).decode()
        yield encoded[-(-before * 4 // 3) : (before + len(run)) * 4 // 3]


class Everything(logging.Handler):
    """Keeps every record: as formatted, its arguments, its attributes, its exception."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s %(threadName)s %(message)s"))
        self.texts: list[str] = []
        self.errors: list[BaseException] = []  # looked at later, on the test's own thread
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name)
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])
        self.texts += [
            record.getMessage(),
            repr(record.msg),
            repr(record.args),
            self.format(record),
            str(record.exc_text),
            repr(vars(record)),
        ]

    def seen(self) -> list[str]:
        """All of it, and all views of the exceptions."""
        return self.texts + [text for error in self.errors for text in views(error)]


def chain(error: BaseException) -> list[BaseException]:
    """The error, its causes, and what was being handled at each, hidden or not."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


def views(value: object) -> list[str]:
    """All that can be seen of an object without naming one of its secrets."""
    if isinstance(value, BaseException):
        return [text for error in chain(value) for text in _of_error(error)]
    return _of_object(value)


def _of_error(error: BaseException) -> list[str]:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown = [*traceback.format_exception(error), *report.format(), repr(error.args)]
    errors: object = getattr(error, "errors", None)  # pydantic's, which may hold the input
    if callable(errors):
        shown.append(_attempt(errors))
    return shown + _of_object(error)


def _of_object(value: object) -> list[str]:
    return [_attempt(lambda way=way: way(value)) for way in _WAYS]  # type: ignore[misc]  # its type


# Of anything; most objects refuse most of it, and what they say then counts too.
_WAYS: Final[tuple[Callable[[Any], object], ...]] = (
    repr,
    str,
    ascii,
    format,
    vars,
    lambda value: [getattr(value, name) for name in dir(value) if name[:1] != "_"],
    dataclasses.asdict,
    dataclasses.astuple,
    copy.copy,
    copy.deepcopy,
    lambda value: value.__reduce_ex__(4),
    lambda value: value.__getstate__(),
    lambda value: json.dumps(value, default=str),
    dict,
    lambda value: value.model_dump(),
    lambda value: value.model_dump(mode="json"),
    lambda value: value.model_dump_json(),
    lambda value: value.model_copy(),
    *(lambda value, p=protocol: pickle.dumps(value, p) for protocol in range(6)),
)


def _attempt(way: Callable[[], object]) -> str:
    """What it gives, or what it says when it refuses."""
    try:
        with warnings.catch_warnings(action="ignore"):
            result = way()
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as exc:
        return f"{exc!r} {''.join(traceback.format_exception(exc))}"
    except pickle.PickleError as exc:
        return repr(exc)
    if isinstance(result, bytes):
        return result.decode("latin-1")
    if isinstance(result, Mapping):
        return f"{result!r} {[(key, str(part)) for key, part in result.items()]}"
    return result if isinstance(result, str) else repr(result)
