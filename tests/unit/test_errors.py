from __future__ import annotations

import pytest

from realtime_stream import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_descends_from_one_root(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.StreamingError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.InvalidSymbolError, ValueError),
        (errors.StartTimeoutError, TimeoutError),
        (errors.StopTimeoutError, TimeoutError),
    ],
)
def test_errors_are_what_callers_already_catch(
    error: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)


def test_errors_keep_their_facts() -> None:
    stuck = errors.StopTimeoutError("not stopped", callback="bot.on_bar", threads=("a", "b"))
    assert (stuck.callback, stuck.threads) == ("bot.on_bar", ("a", "b"))
    assert errors.AuthenticationError("refused", code=402).code == 402
    assert errors.ServerError("broken").code is None
    assert errors.HandshakeError("refused", status=502).status == 502
    assert errors.SessionClosedError("gone", code=1006).code == 1006


@pytest.mark.parametrize("name", errors.__all__)
def test_the_tree_in_the_docstring_names_every_error(name: str) -> None:
    assert errors.__doc__ is not None
    assert name in errors.__doc__
