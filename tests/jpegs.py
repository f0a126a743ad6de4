"""A small JPEG encoder: sampling factors, colour spaces and scans that Pillow and OpenCV do not write."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from conftest import encode_image
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


@functools.cache
def borrow_tables() -> tuple[bytes, dict[tuple[int, int], dict[int, str]]]:
    """Return the Huffman tables that Pillow writes: as segments, and by class and number the code of each symbol."""
    content = encode_image(Image.new("RGB", (8, 8)), "JPEG")
    segments, codes, start = b"", {}, 0
    while (start := content.find(b"\xff\xc4", start)) >= 0:
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4])
        segments += content[start:end]
        table = content[start + 4 : end]
        code, symbols, found = 0, iter(table[17:]), {}
        for length, count in enumerate(table[1:17], 1):
            for _ in range(count):
                found[next(symbols)] = f"{code:0{length}b}"
                code += 1
            code *= 2
        codes[table[0] >> 4, table[0] & 15] = found
        start = end
    return segments, codes


def write_number(value: int) -> tuple[int, str]:
    """Return the count of bits of a number, and the bits, as JPEG codes them."""
    size = abs(value).bit_length()
    return size, f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""


def encode_block(block: Floats, previous: int) -> tuple[str, int]:
    """Encode 8 x 8 samples as bits; also return its constant coefficient."""
    numbers = np.rint(cv2.dct(block - 128) / QUANTUM).astype(int).ravel()[ZIGZAG].tolist()
    codes = borrow_tables()[1]
    size, bits = write_number(numbers[0] - previous)
    text, zeros = codes[0, 0][size] + bits, 0
    last = max((k for k in range(1, 64) if numbers[k]), default=0)
    for number in numbers[1 : last + 1]:
        if not number:
            zeros += 1
            continue
        text += codes[1, 0][0xF0] * (zeros // 16)
        size, bits = write_number(number)
        text += codes[1, 0][zeros % 16 * 16 + size] + bits
        zeros = 0
    return text + (codes[1, 0][0] if last < 63 else ""), numbers[0]


QUANTUM = 2
ZIGZAG = sorted(range(64), key=lambda k: (k // 8 + k % 8, (k // 8 if (k // 8 + k % 8) % 2 else k % 8)))


def pack_bits(bits: str) -> bytes:
    """Pack bits into bytes, filled up with ones; a byte FF is followed by a zero."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0") if bits else b""


def make_segment(marker: int, content: bytes) -> bytes:
    """Return a segment with its marker and its length."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def encode_jpeg(
    planes: NDArray[np.uint8],
    factors: Sequence[tuple[int, int]],
    *,
    transform: int | None = None,
    interval: int = 0,
    scans: Iterable[Sequence[int]] | None = None,
) -> bytes:
    """Encode a baseline JPEG.

    Parameters
    ----------
    planes
        uint8, shape (height, width, components), in the colour space of the file.
    factors
        The sampling factors of each component: horizontal, vertical.
    transform
        That of the Adobe marker: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK; None: there is no such marker.
    interval
        MCUs between restart markers; 0: none.
    scans
        The components of each scan; None: one scan of all.
    """
    height, width, count = planes.shape
    largest = max(h for h, _ in factors), max(v for _, v in factors)
    columns, rows = -(-width // (8 * largest[0])), -(-height // (8 * largest[1]))
    padded = cv2.copyMakeBorder(
        planes, 0, rows * 8 * largest[1] - height, 0, columns * 8 * largest[0] - width, cv2.BORDER_REPLICATE
    ).reshape(rows * 8 * largest[1], columns * 8 * largest[0], count)
    sampled = [
        cv2.resize(padded[..., k].astype(np.float32), (columns * 8 * h, rows * 8 * v), interpolation=cv2.INTER_AREA)
        for k, (h, v) in enumerate(factors)
    ]
    parts = [b"\xff\xd8", make_segment(0xDB, b"\0" + bytes([QUANTUM] * 64)), borrow_tables()[0]]
    if transform is not None:
        parts.append(make_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])))
    if interval:
        parts.append(make_segment(0xDD, struct.pack(">H", interval)))
    components = b"".join(bytes([k + 1, h << 4 | v, 0]) for k, (h, v) in enumerate(factors))
    parts.append(make_segment(0xC0, struct.pack(">BHHB", 8, height, width, count) + components))
    for scan in scans or [range(count)]:
        chosen = b"".join(bytes([k + 1, 0]) for k in scan)
        parts.append(make_segment(0xDA, bytes([len(scan)]) + chosen + b"\0\x3f\0"))
        if len(scan) > 1:
            units = [
                [
                    (k, row * v + y, column * h + x)
                    for k in scan
                    for h, v in [factors[k]]
                    for y in range(v)
                    for x in range(h)
                ]
                for row in range(rows)
                for column in range(columns)
            ]
        else:  # a component alone has no blocks beyond its own edge
            (k,) = scan
            across, down = (-(-side * factors[k][n] // (8 * largest[n])) for n, side in enumerate((width, height)))
            units = [[(k, y, x)] for y in range(down) for x in range(across)]
        step = interval or len(units)
        for number, start in enumerate(range(0, len(units), step)):
            if number:
                parts.append(bytes([0xFF, 0xD0 + (number - 1) % 8]))
            bits, previous = "", dict.fromkeys(scan, 0)
            for k, y, x in (block for unit in units[start : start + step] for block in unit):
                text, previous[k] = encode_block(sampled[k][8 * y : 8 * y + 8, 8 * x : 8 * x + 8], previous[k])
                bits += text
            parts.append(pack_bits(bits))
    return b"".join([*parts, b"\xff\xd9"])
