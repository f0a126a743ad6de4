"""Headers of H.264 pictures, read from packets: they show where pictures are gone.

A decoder that meets a gap in the numbers of the reference pictures repeats the last picture and reports nothing. See
ITU-T H.264, 7.3 (syntax) and 7.4.3 (`frame_num`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_SLICES, _IDR, _SEI, _SPS, _PPS = (1, 2, 5), 5, 6, 7, 8  # types of NAL units
_RECOVERY_POINT = 6  # type of an SEI message
_HEADER_BYTES = 256  # of a slice: more than what is read of its header
_UNUSABLE = (IndexError, KeyError, ValueError)  # raised by damaged headers, and where a parameter set is missing
_START_CODE = b"\0\0\1"
_WITH_CHROMA_FORMAT = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles
_P, _B, _SP = 0, 1, 3  # types of slices, modulo 5
_END_OF_LIST, _RESET = 3, 5  # operations on the list of references, and on reference pictures: all are dropped
_OPERANDS = {1: 1, 2: 1, 3: 2, 4: 1, 6: 1}  # of operations on reference pictures


class Picture(NamedTuple):
    """What the first slice of a packet says of its picture.

    Attributes
    ----------
    frame_num
        Number of the picture: one more than that of the last reference picture in decoding order, modulo `modulus`.
    modulus
        0 if the stream allows gaps in the numbers.
    is_idr
        Whether it depends on nothing before it; the numbers begin anew.
    is_reference
        Whether others may depend on it.
    parity
        0 for a frame. 1 and 2 for the top and bottom field of a frame, which have the same number.
    order
        Its place in presentation order since the last picture with `is_idr` (the low bits of the picture order count);
        None if it is not stated, or of a field.
    order_modulus
        Of `order`.
    resets
        Whether it drops all before it, though it may depend on them: the numbers begin anew after it.
    recovery
        If decoding may start here, the number of reference pictures until the pictures are right: 0 except where a
        stream is refreshed bit by bit.
    """

    frame_num: int
    modulus: int
    is_idr: bool
    is_reference: bool
    parity: int = 0
    resets: bool = False
    recovery: int = 0
    order: int | None = None
    order_modulus: int = 0


@dataclass
class _Parameters:
    """What a sequence parameter set says of slice headers."""

    has_colour_planes: bool
    number_bits: int
    order_bits: int | None
    order_offsets: int
    has_chroma: bool
    allows_gaps: bool
    has_fields: bool


class _PictureParameters(NamedTuple):
    """What a picture parameter set says of slice headers."""

    sequence: int
    has_bottom_order: bool
    references: tuple[int, int]
    is_weighted: tuple[bool, bool]
    """Of P and of B slices."""
    has_redundant_count: bool


@dataclass
class HeaderReader:
    """Reads the headers of one stream, packet by packet.

    Parameters
    ----------
    extradata
        Of the stream: its parameter sets, and whether its packets have start codes or lengths.
    """

    extradata: bytes
    _sequences: dict[int, _Parameters] = field(default_factory=dict)
    _pictures: dict[int, _PictureParameters] = field(default_factory=dict)
    _length_bytes: int = 0  # 0: start codes

    def __post_init__(self) -> None:
        """Read the parameter sets that stand in the header of the file."""
        if self.extradata[:1] != b"\1":
            self.read_picture(self.extradata)
            return
        self._length_bytes = (self.extradata[4] & 3) + 1 if len(self.extradata) > 4 else 4
        with contextlib.suppress(*_UNUSABLE):
            for unit in _split_configuration(self.extradata):
                self._read_parameters(unit)

    def read_picture(self, packet: bytes) -> Picture | None:
        """Read the header of a packet's first slice; None if there is none that can be read.

        Examples
        --------
        >>> HeaderReader(b"").read_picture(b"no slice") is None
        True
        """
        recovery = 0
        try:
            for unit in _split_by_length(packet, self._length_bytes) if self._length_bytes else _split_by_code(packet):
                kind = unit[0] & 31
                if kind in _SLICES:
                    return self._read_slice(unit, recovery)
                if kind == _SEI:
                    recovery = _read_recovery(unit) or recovery
                else:
                    self._read_parameters(unit)
        except _UNUSABLE:
            return None
        return None

    def _read_parameters(self, unit: bytes) -> None:
        kind = unit[0] & 31 if unit else 0
        if kind == _SPS:
            bits = _Bits(unit[1:])
            identity, parameters = _read_sequence(bits)
            self._sequences[identity] = parameters
        elif kind == _PPS:
            identity, picture = _read_picture_parameters(_Bits(unit[1:]))
            self._pictures[identity] = picture

    def _read_slice(self, unit: bytes, recovery: int) -> Picture:
        bits = _Bits(unit[1:_HEADER_BYTES])
        bits.read_number()  # first macroblock
        kind = bits.read_number() % 5
        picture = self._pictures[bits.read_number()]
        parameters = self._sequences[picture.sequence]
        bits.skip(2 * parameters.has_colour_planes)
        number = bits.read(parameters.number_bits)
        is_field = parameters.has_fields and bool(bits.read(1))
        parity = 1 + bits.read(1) if is_field else 0
        is_idr = unit[0] & 31 == _IDR
        if is_idr:
            bits.read_number()
        order = bits.read(parameters.order_bits) if parameters.order_bits else None
        is_reference = bool(unit[0] & 0x60)
        if parameters.order_bits:
            offsets = int(picture.has_bottom_order and not is_field)
        else:
            offsets = parameters.order_offsets and 1 + (picture.has_bottom_order and not is_field)
        return Picture(
            frame_num=number,
            modulus=0 if parameters.allows_gaps else 1 << parameters.number_bits,
            is_idr=is_idr,
            is_reference=is_reference,
            parity=parity,
            resets=is_reference and not is_idr and _find_reset(bits, kind, picture, parameters, offsets),
            recovery=recovery,
            order=None if is_field else order,
            order_modulus=1 << (parameters.order_bits or 0),
        )


class _Bits:
    """Bits of a NAL unit, without the bytes that keep it from containing a start code."""

    def __init__(self, content: bytes) -> None:
        plain = content.replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(plain, "big"), 8 * len(plain)

    def skip(self, count: int) -> None:
        self._left -= count

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError
        return self._value >> self._left & ((1 << count) - 1)

    def read_number(self) -> int:
        """Read an unsigned Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def read_signed(self) -> int:
        """Read a signed Exp-Golomb code, se(v)."""
        number = self.read_number()
        return (number + 1) // 2 * (1 if number % 2 else -1)


def _split_by_code(packet: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a packet with start codes; of the last that is asked for, its end is not sought."""
    begin = packet.find(_START_CODE)
    while begin >= 0:
        begin += len(_START_CODE)
        if begin >= len(packet):
            return
        if packet[begin] & 31 in _SLICES:
            yield packet[begin : begin + _HEADER_BYTES]
        end = packet.find(_START_CODE, begin)
        yield packet[begin : end if end >= 0 else len(packet)]
        begin = end


def _split_by_length(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the NAL units of a packet in which each stands after its length."""
    position = 0
    while position + length_bytes < len(packet):
        begin = position + length_bytes
        position = begin + int.from_bytes(packet[position:begin], "big")
        yield packet[begin : min(position, begin + _HEADER_BYTES) if packet[begin] & 31 in _SLICES else position]


def _split_configuration(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an ``avcC`` record (ISO/IEC 14496-15, 5.3.3.1)."""
    position = 5
    for mask in (31, 255):
        if position >= len(extradata):
            return
        count, position = extradata[position] & mask, position + 1
        for _ in range(count):
            begin = position + 2
            position = begin + int.from_bytes(extradata[position:begin], "big")
            yield extradata[begin:position]


def _read_sequence(bits: _Bits) -> tuple[int, _Parameters]:
    """Read a sequence parameter set as far as slice headers need it: its number, and what it says."""
    profile = bits.read(8)
    bits.skip(16)
    identity = bits.read_number()
    has_colour_planes, chroma = False, 1
    if profile in _WITH_CHROMA_FORMAT:
        chroma = bits.read_number()
        if chroma == 3:
            has_colour_planes = bool(bits.read(1))
            lists = 12
        else:
            lists = 8
        bits.read_number()
        bits.read_number()
        bits.skip(1)
        if bits.read(1):
            for number in range(lists):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    number_bits = bits.read_number() + 4
    order_kind, order_bits, order_offsets = bits.read_number(), None, 0
    if order_kind == 0:
        order_bits = bits.read_number() + 4
    elif order_kind == 1:
        order_offsets = 1 - bits.read(1)
        bits.read_number()
        bits.read_number()
        for _ in range(bits.read_number()):
            bits.read_number()
    bits.read_number()  # reference frames
    allows_gaps = bool(bits.read(1))
    bits.read_number()  # width
    bits.read_number()  # height
    has_fields = not bits.read(1)
    has_chroma = chroma != 0 and not has_colour_planes
    return identity, _Parameters(
        has_colour_planes, number_bits, order_bits, order_offsets, has_chroma, allows_gaps, has_fields
    )


def _read_picture_parameters(bits: _Bits) -> tuple[int, _PictureParameters]:
    """Read a picture parameter set as far as slice headers need it: its number, and what it says."""
    identity, sequence = bits.read_number(), bits.read_number()
    bits.skip(1)
    has_bottom_order = bool(bits.read(1))
    if bits.read_number():
        raise ValueError  # groups of slices, which no encoder uses
    references = bits.read_number() + 1, bits.read_number() + 1
    is_weighted = bool(bits.read(1)), bits.read(2) == 1
    for _ in range(3):
        bits.read_number()
    bits.skip(2)
    return identity, _PictureParameters(sequence, has_bottom_order, references, is_weighted, bool(bits.read(1)))


def _find_reset(bits: _Bits, kind: int, picture: _PictureParameters, parameters: _Parameters, offsets: int) -> bool:
    """Read the rest of a slice header, from the offsets of its order on; return whether all references are dropped."""
    for _ in range(offsets + picture.has_redundant_count):
        bits.read_number()
    bits.skip(kind == _B)
    lists = {_P: 1, _SP: 1, _B: 2}.get(kind, 0)
    counts = picture.references[:lists]
    if lists and bits.read(1):
        counts = tuple(bits.read_number() + 1 for _ in range(lists))
    for _ in range(lists):
        if bits.read(1):
            while bits.read_number() != _END_OF_LIST:
                bits.read_number()
    if lists and picture.is_weighted[lists - 1]:
        _skip_weights(bits, sum(counts), parameters.has_chroma)
    if bits.read(1):
        while operation := bits.read_number():
            if operation == _RESET:
                return True
            for _ in range(_OPERANDS[operation]):
                bits.read_number()
    return False


def _skip_weights(bits: _Bits, count: int, has_chroma: bool) -> None:
    for _ in range(1 + has_chroma):
        bits.read_number()
    for _ in range(count):
        for numbers in (2, 4)[: 1 + has_chroma]:
            if bits.read(1):
                for _ in range(numbers):
                    bits.read_number()


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_signed()) % 256
        last = following or last


def _read_recovery(unit: bytes) -> int:
    """Return the number of pictures until recovery that an SEI unit states; 0 if it states none."""
    content = unit[1:].replace(b"\0\0\3", b"\0\0")
    position = 0
    while position + 2 < len(content):
        kind, position = _read_growing(content, position)
        size, position = _read_growing(content, position)
        if kind == _RECOVERY_POINT:
            return _Bits(content[position : position + size]).read_number()
        position += size
    return 0


def _read_growing(content: bytes, position: int) -> tuple[int, int]:
    """Read a number that is the sum of bytes up to the first that is not 255; return it and what follows."""
    value = 0
    while content[position] == 255:
        value, position = value + 255, position + 1
    return value + content[position], position + 1
