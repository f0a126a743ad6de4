"""The packets at which decoding may start: what a file says of them is held against the stream itself.

Where the list of such packets is missing, every packet passes for one. A decoder that begins at another returns false
pictures, and reports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectime.sources import mpeg

_READ_BY_FFMPEG = ("h264", "vp9", "av1")  # codecs of which FFmpeg's demuxers read the headers themselves
_PICTURES = 32  # types of HEVC's NAL units below are pictures,
_RANDOM_ACCESS = range(16, 24)  # and these of them depend on nothing before them
_START_CODE = b"\0\0\1"


def choose_test(codec: Any) -> Callable[[bytes], bool] | None:
    """Choose how it is seen whether decoding may start at a packet, from the stream's PyAV ``CodecContext``.

    None: the stream does not show it here. A packet that cannot be read passes.
    """
    if codec.name in mpeg.CODECS:
        return _starts_mpeg
    if codec.name == "hevc":
        extradata = bytes(codec.extradata or b"")
        length_bytes = (extradata[21] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 21 else 0
        return lambda packet: _starts_hevc(packet, length_bytes)
    return None


def distrust_keys(is_key: NDArray[np.bool_], codec: Any) -> NDArray[np.bool_]:
    """Keep only the first key where each packet is said to be one, though the codec is not known to need no others.

    Parameters
    ----------
    is_key
        bool, shape (packets,): what the file says.
    codec
        The stream's PyAV ``CodecContext``.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> h263 = SimpleNamespace(name="h263", codec=SimpleNamespace(intra_only=False))
    >>> distrust_keys(np.array([True, True, True]), h263).tolist()
    [True, False, False]
    """
    if not is_key.all() or codec.codec.intra_only or codec.name in _READ_BY_FFMPEG or choose_test(codec):
        return is_key
    is_first: NDArray[np.bool_] = np.arange(len(is_key)) == 0
    return is_first


def _starts_mpeg(packet: bytes) -> bool:
    picture = mpeg.read_picture(packet)
    return picture is None or picture.is_intra


def _starts_hevc(packet: bytes, length_bytes: int) -> bool:
    """Whether the first picture of a packet depends on nothing before it.

    Its units stand after start codes, or each after its length, which takes so many bytes (ITU-T H.265, 7.3.1 and
    7.4.2.2; ISO/IEC 14496-15, 8.3.3).

    Examples
    --------
    >>> _starts_hevc(bytes.fromhex("000001 4601 000001 2601 ac"), 0)  # a delimiter, and an IDR picture
    True
    >>> _starts_hevc(bytes.fromhex("00000003 0201d0"), 4)
    False
    """
    for begin in _find_by_length(packet, length_bytes) if length_bytes else _find_by_code(packet):
        kind = packet[begin] >> 1 & 63
        if kind < _PICTURES:
            return kind in _RANDOM_ACCESS
    return True


def _find_by_code(packet: bytes) -> Iterator[int]:
    """Yield where the NAL units of a packet with start codes begin."""
    begin = packet.find(_START_CODE)
    while 0 <= begin < len(packet) - len(_START_CODE):
        begin += len(_START_CODE)
        yield begin
        begin = packet.find(_START_CODE, begin)


def _find_by_length(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Yield where the NAL units of a packet begin in which each stands after its length."""
    begin = length_bytes
    while begin < len(packet):
        yield begin
        begin += int.from_bytes(packet[begin - length_bytes : begin], "big") + length_bytes
