"""Faults that the fuzzer has to find: `tools.fuzz` calls these functions in its workers, which they damage."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from detectime.decoding import formats, jpeg
from detectime.labels import frames_csv


def _is_rare(content: bytes, among: int) -> bool:
    return zlib.crc32(content) % among == 1


def _damage_format(beginning: bytes, fault: Callable[[Callable[[], Any]], Any], among: int = 4) -> None:
    """Put a fault in place of the decoder of one format, which it is given, where the file has rare bytes."""
    decode = formats.decode

    def decode_badly(encoded: bytes, max_pixels: int) -> Any:
        is_damaged = encoded.startswith(beginning) and _is_rare(encoded, among)
        return fault(lambda: decode(encoded, max_pixels)) if is_damaged else decode(encoded, max_pixels)

    formats.decode = decode_badly


def hang_in_jpeg() -> None:
    read_header = jpeg.read_header

    def hang(encoded: bytes, max_pixels: int) -> Any:
        while _is_rare(encoded, 16):
            time.sleep(0.01)
        return read_header(encoded, max_pixels)

    jpeg.read_header = hang


def raise_in_gif() -> None:
    _damage_format(b"GIF8", lambda decode: [][1])


def waste_memory_in_bmp() -> None:
    def waste(decode: Callable[[], Any]) -> Any:
        np.ones(600_000_000, np.uint8)
        return decode()

    _damage_format(b"BM", waste)


def die_in_pnm() -> None:
    _damage_format(b"P", lambda decode: os.abort(), among=8)


def cut_rows_of_png() -> None:
    """Return an image without its last row: no error, and wrong."""

    def cut(decode: Callable[[], Any]) -> Any:
        header, pixels = decode()
        return header, pixels[:-1]

    _damage_format(b"\x89PNG", cut)


def lose_class_in_csv() -> None:
    """Give frames the label of another class: no error, and wrong."""
    number_classes = frames_csv.number_classes

    def number_badly(table: Any, labels: Any) -> Any:
        numbered = number_classes(table, labels)
        return numbered.assign(label=numbered["label"] + 1)

    frames_csv.number_classes = number_badly
