"""Writes H.264 streams that common encoders do not write: frames of one colour, as two fields or with other numbers."""

from __future__ import annotations

from dataclasses import dataclass

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8  # types of NAL units
_PCM, _INTRA = 25, 7  # type of a macroblock of plain samples, and of a slice with such only


@dataclass
class Stream:
    """The parameters of a stream of 32 x 32 pixels.

    Parameters
    ----------
    are_fields
        Whether each frame is stored as two fields.
    allows_gaps
        Whether frame numbers may be left out.
    """

    are_fields: bool = False
    allows_gaps: bool = False

    def write_parameters(self) -> bytes:
        """Write the parameter sets."""
        height = 1 if self.are_fields else 2  # of a field or a frame, in macroblocks
        sequence = [f"{77:08b}{0:08b}{30:08b}", ue(0), ue(0), ue(0), ue(4), ue(2), f"{self.allows_gaps:b}", ue(1)]
        sequence += [ue(height - 1), "01" if self.are_fields else "1", "1", "0", "0"]
        picture = [ue(0), ue(0), "0", "0", ue(0), ue(0), ue(0), "0", "00", ue(0), ue(0), ue(0), "1", "0", "0"]
        return write_unit(0x60 | _SPS, "".join(sequence)) + write_unit(0x60 | _PPS, "".join(picture))

    def write_frame(self, number: int, order: int, luma: int, is_idr: bool = False, resets: bool = False) -> bytes:
        """Write a frame of one colour, with `frame_num` and picture order count; `resets`: both begin anew after it."""
        if not self.are_fields:
            return self._write_picture(number, order, luma, is_idr, resets, "")
        first = self._write_picture(number, order, luma, is_idr, resets, "10")
        return first + self._write_picture(number, order + 1, luma, False, False, "11")

    def _write_picture(self, number: int, order: int, luma: int, is_idr: bool, resets: bool, parity: str) -> bytes:
        header = [ue(0), ue(_INTRA), ue(0), f"{number % 16:04b}", parity, ue(0) if is_idr else "", f"{order % 256:08b}"]
        header += ["00" if is_idr else "1" + ue(5) + ue(0) if resets else "0", ue(0), ue(1)]
        bits = "".join(header)
        for _ in range(2 if self.are_fields else 4):
            bits += ue(_PCM)
            bits += "0" * (-len(bits) % 8)
            bits += f"{luma:08b}" * 256 + f"{128:08b}" * 128
        return write_unit(0x60 | (_IDR if is_idr else _SLICE), bits)


def ue(value: int) -> str:
    """Return the bits of an unsigned Exp-Golomb code."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def write_unit(head: int, bits: str) -> bytes:
    """Write a NAL unit: start code, head, and content with its end marked."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    content = int(bits, 2).to_bytes(len(bits) // 8, "big")
    escaped = bytearray()
    for byte in content:
        if escaped[-2:] == b"\0\0" and byte <= 3:
            escaped.append(3)
        escaped.append(byte)
    return b"\0\0\0\1" + bytes([head]) + bytes(escaped)
