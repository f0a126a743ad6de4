"""Changes of bytes: bits, numbers, pieces left out, repeated, exchanged or put in, and ends cut off."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

_MOST_CHANGES = 8
_LONGEST_GROWTH = 2**16  # bytes by which an input may grow
_HEAD = 256  # bytes in which a change is likelier than further behind
_NUMBERS = (
    0,
    1,
    -1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
)

_BLOCK = 512  # bytes of a header of a tar
_CHECKSUM = slice(148, 156)
_PNG_START = 8  # bytes of the signature


def mutate_bytes(content: bytes, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> bytes:
    """Change a few places of an input.

    Parameters
    ----------
    content
        The input.
    others
        Inputs of the same kind, of which pieces are taken.
    tokens
        Words of the format.
    source
        Of random numbers.

    Examples
    --------
    >>> mutate_bytes(b"abc", [b"abc"], [], random.Random(1)) == mutate_bytes(b"abc", [b"abc"], [], random.Random(1))
    True
    """
    changed = bytearray(content)
    limit = len(content) + _LONGEST_GROWTH
    count = min(1 + int(source.expovariate(0.6)), _MOST_CHANGES)
    for _ in range(count):
        source.choice(_CHANGES)(changed, others, tokens, source)
    return bytes(changed[:limit])


def _choose_place(content: bytearray, source: random.Random) -> int:
    """Choose a position: anywhere, or in the first or the last bytes, where headers and indexes are."""
    if not content:
        return 0
    where = source.random()
    if where < 0.3:
        return source.randrange(min(len(content), _HEAD))
    if where < 0.5:
        return len(content) - 1 - source.randrange(min(len(content), _HEAD))
    return source.randrange(len(content))


def _choose_piece(content: Sequence[int], source: random.Random) -> slice:
    start = source.randrange(len(content) + 1)
    return slice(start, start + int(source.expovariate(1 / 32)) + 1)


def _flip_bits(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    for _ in range(source.choice((1, 1, 1, 4))):
        if content:
            content[_choose_place(content, source)] ^= 1 << source.randrange(8)


def _set_byte(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    if content:
        content[_choose_place(content, source)] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))


def _set_number(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    """Put in a number that is often at a limit, such as a length."""
    size = source.choice((2, 4, 4, 8))
    value = source.choice((*_NUMBERS, len(content), source.getrandbits(8 * size))) % 256**size
    place = _choose_place(content, source)
    content[place : place + size] = value.to_bytes(size, source.choice(("big", "little")))


def _cut(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    del content[_choose_place(content, source) :]


def _leave_out(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    del content[_choose_piece(content, source)]


def _repeat(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    piece = content[_choose_piece(content, source)]
    place = source.randrange(len(content) + 1)
    content[place:place] = piece * source.choice((1, 1, 2, 100))


def _exchange(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    """Take a piece of another input, or its end."""
    other = source.choice(others)
    place = source.randrange(len(content) + 1)
    if source.random() < 0.3:
        content[place:] = other[source.randrange(len(other) + 1) :]
    else:
        piece = other[_choose_piece(other, source)]
        content[place : place + len(piece)] = piece


def _put_token(content: bytearray, others: Sequence[bytes], tokens: Sequence[bytes], source: random.Random) -> None:
    if tokens:
        token, place = source.choice(tokens), _choose_place(content, source)
        content[place : place + source.choice((0, len(token)))] = token


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], Sequence[bytes], random.Random], None], ...] = (
    *(_flip_bits, _flip_bits, _set_byte, _set_byte, _set_number, _set_number),
    *(_cut, _leave_out, _repeat, _exchange, _put_token, _put_token),
)


def repair_png(content: bytes) -> bytes:
    """Make the checksums of the chunks of a PNG right, so that what they hold is looked at.

    Examples
    --------
    >>> repair_png(b"x" * 8 + bytes(3) + b"\\1IDATz....")[-4:] == zlib.crc32(b"IDATz").to_bytes(4)
    True
    """
    repaired, place = bytearray(content), _PNG_START
    while place + 12 <= len(repaired):
        end = place + 8 + int.from_bytes(repaired[place : place + 4])
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(repaired)


def repair_tar(content: bytes) -> bytes:
    """Make the checksums of the headers of a tar right.

    Examples
    --------
    >>> repair_tar(b"a" * 257 + b"ustar" + bytes(250))[148:156]
    b'060610\\x00 '
    """
    repaired = bytearray(content)
    for place in range(0, len(repaired) - _BLOCK + 1, _BLOCK):
        block = repaired[place : place + _BLOCK]
        if block[257:262] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = b"%06o\0 " % sum(block)
            repaired[place : place + _BLOCK] = block
    return bytes(repaired)
