"""Odd values: text, numbers and others that programs, people and disks put where they are not expected."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

_WORDS = "NaN nan null None true -1 0 1e999 1e5 0.1 12,5 ٣ ½ 1_000 stop ok all like".split()
_PATHS = "../../a.jpg /etc/passwd C:\\a\\b.jpg s3://a/b.jpg file:///a.jpg a//b.jpg ./a.jpg a.jpg/ ~ clip.mp4".split()
_KNOWN = "stop_01/0001.jpg STOP_01/0001.JPG ok_01/0001 frame_path class_name outcome".split()
_TIMES = "2026-01-02T03:04:05 2026-01-02T03:04:05+00:00 9999-99-99 00:00:01 1:2:3:4 -0:01 1h 640x480 nanxnan".split()
_BLANKS = ("", " ", "\0", "a\0b", "\n", "a\r\nb", "\t", " a ", "\ufeffa", "\u202ea")
_LETTERS = ('"', "'", "é", "e\u0301", "a" * 5000)
_SURROGATES = ("\ud800", "a\udcffb")  # what no UTF-8 holds

_NUMBERS = (0, 1, -1, 2, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"))
_LIMITS = (2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400)
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [{}],
    {"a": 1},
    [0, 0, 0, 0],
    [1, 2, 3],
    [9, 9, 1, 1],
)

TEXTS: st.SearchStrategy[str] = st.sampled_from([*_WORDS, *_PATHS, *_KNOWN, *_TIMES, *_BLANKS, *_LETTERS]) | st.text(
    max_size=12
)
"""Odd text, which UTF-8 can hold."""

# Copies: what is put into a tree is changed later.
VALUES: st.SearchStrategy[Any] = (
    TEXTS
    | st.sampled_from([*_NUMBERS, *_LIMITS])
    | st.floats()
    | st.sampled_from(_OTHERS).map(copy.deepcopy)
    | st.sampled_from(_SURROGATES)
)
"""Odd values of any type that JSON has."""


def choose_index(draw: st.DrawFn, length: int) -> int:
    """Draw a position in a sequence of such a length."""
    return draw(st.integers(0, length - 1))


def choose(draw: st.DrawFn, words: str) -> str:
    """Draw one of several words."""
    return draw(st.sampled_from(words.split()))
