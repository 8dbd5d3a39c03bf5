"""A session's keys, taken out of what a server said."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

__all__ = ["blanked", "masked"]


def masked(text: str, secrets: Iterable[SecretStr]) -> str:
    """A server's words without the keys, which it may quote."""
    for secret in secrets:
        text = text.replace(secret.get_secret_value(), "***")
    return text


def blanked(data: bytes | str, secrets: Iterable[SecretStr]) -> bytes | str:
    """A frame without the keys: in their place stand as many stars, so that it can be decoded."""
    for secret in secrets:
        value = secret.get_secret_value()
        if isinstance(data, str):
            data = data.replace(value, "*" * len(value))
        else:
            key = value.encode()
            data = data.replace(key, b"*" * len(key))
    return data
