"""Writing a long JSON list or object piece by piece, so that memory does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def encode_chunks(chunks: Iterable[list[Any]] | Iterable[dict[str, Any]], brackets: str) -> Iterator[bytes]:
    r"""Yield the JSON of all chunks joined, one element per line.

    The text is plain ASCII, so that readers that open files in the encoding of their system read every name.

    Parameters
    ----------
    chunks
        Lists, or dicts without a common key.
    brackets
        ``[]`` for lists, ``{}`` for dicts; what there is without chunks.

    Yields
    ------
    bytes
        Pieces of a file.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, which JSON cannot hold.

    Examples
    --------
    >>> b"".join(encode_chunks([[1, {"a": "ö"}], [], [3]], "[]"))
    b'[\n1,\n{"a":"\\u00f6"},\n3\n]'
    >>> b"".join(encode_chunks([{"a": 1}, {"b": 2}], "{}"))
    b'{\n"a":1,\n"b":2\n}'
    """
    yield brackets[0].encode()
    separator = b"\n"
    for chunk in chunks:
        if chunk:
            yield separator + ",\n".join(_encode_elements(chunk)).encode()
            separator = b",\n"
    yield b"\n" + brackets[1].encode()


def _encode_elements(chunk: list[Any] | dict[str, Any]) -> Iterator[str]:
    if isinstance(chunk, dict):
        return (f"{_ENCODE(key)}:{_ENCODE(value)}" for key, value in chunk.items())
    return map(_ENCODE, chunk)


_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
