"""JPEG: a fast decoder that tells what is missing, and Pillow for the kinds that it declines."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from detectime.decoding.contract import RGB, Header, UnreadableImageError, check_size, read_orientation

SIGNATURE = b"\xff\xd8"

_TRUNCATED = "truncated: the JPEG's data ends early"
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_EXIF = b"Exif\0\0"
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}  # a stuffed byte, TEM, restarts, the start
_STARTS_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_ARITHMETIC = range(0xC9, 0xD0)
_JPEG_LS = 0xF7
_COEFFICIENTS = 64  # of a block
_MAX_SCANS = 500  # each goes over the whole image: a small file could keep a decoder busy for hours


def read_header(encoded: bytes, max_pixels: int) -> Header:
    """Read and check the header of a JPEG.

    Raises
    ------
    UnreadableImageError
        If there is none, if the image is too large, or of a kind that nothing here decodes.

    Examples
    --------
    >>> read_header(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8)), max_pixels=1_000_000)
    Header(width=64, height=48, orientation=1, is_upright=False, is_reducible=True)
    """
    exif: bytes | None = None
    start_of_frame = b""
    is_reducible = False
    for marker, segment in _read_segments(encoded):
        if marker == _SCAN:
            break
        if marker == _APP1:
            exif = exif or (segment[len(_EXIF) :] if segment.startswith(_EXIF) else None)
        elif marker in _STARTS_OF_FRAME:
            # Asked to reduce a lossless JPEG, the decoder writes the whole one past the end of its buffer.
            is_reducible = not start_of_frame and marker not in _LOSSLESS
            start_of_frame = segment
            _check_kind(marker, segment, encoded)
        elif marker == _JPEG_LS:
            raise UnreadableImageError("a JPEG-LS image, which is not read; convert it to JPEG or PNG")
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(encoded, strict=False)
    except (ValueError, KeyError):  # KeyError: of a name for the sampling factors 1x4
        if len(start_of_frame) < 6:
            raise
        # Of a kind that the fast decoder declines.
        height, width = (int.from_bytes(start_of_frame[k : k + 2]) for k in (1, 3))
    check_size(width, height, max_pixels)
    return Header(width, height, read_orientation(exif), is_reducible=is_reducible)


def decode(encoded: bytes, width: int, height: int, max_pixels: int) -> RGB:
    """Decode a JPEG.

    Parameters
    ----------
    encoded
        A whole file.
    width, height
        The size that is sufficient: that of the image, or, if its header says `is_reducible`, a half, a quarter or an
        eighth of that, rounded up.
    max_pixels
        Limit of the second decoder, which reads the header anew.

    Returns
    -------
    ndarray
        uint8, shape (height, width, 3), or that of the whole image if only the second decoder can decode it.

    Raises
    ------
    UnreadableImageError
        If pixels are missing.
    ValueError, OSError
        If the data is broken.

    Examples
    --------
    >>> decode(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8)), 32, 24, max_pixels=1_000_000).shape
    (24, 32, 3)
    """
    encoded = encoded.rstrip(b"\0")  # cameras pad files with zeros, which also stand for what was lost: no pixels
    try:
        return _decode_fast(encoded, width, height)
    except ValueError as error:
        # The decoder fills missing data with grey and only warns. It reports its first warning alone.
        refusal = error
    warning = str(refusal).lower()
    if "premature end of jpeg file" in warning:
        return _decode_without_end(encoded, width, height)
    if "premature end" in warning:
        raise UnreadableImageError(_TRUNCATED) from refusal
    # A harmless warning (stray bytes), after which Pillow decides whether the data ends early, or a kind that the fast
    # decoder declines (sampling factors such as 4x2).
    try:
        image = _load_by_pillow(encoded, max_pixels)
    except UnidentifiedImageError:
        raise refusal from None
    except OSError as error:
        if "truncated" in str(error):
            raise UnreadableImageError(_TRUNCATED) from error
        raise
    try:
        return _decode_fast(encoded, width, height, strict=False)
    except ValueError:
        return np.array(image.convert("RGB"))


def _decode_fast(encoded: bytes, width: int, height: int, *, strict: bool = True) -> RGB:
    return np.asarray(simplejpeg.decode_jpeg(encoded, "RGB", min_width=width, min_height=height, strict=strict))


def _load_by_pillow(encoded: bytes, max_pixels: int) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which does no harm
        image = Image.open(io.BytesIO(encoded), formats=("JPEG",))
    check_size(*image.size, max_pixels)
    image.load()
    return image


def _decode_without_end(encoded: bytes, width: int, height: int) -> RGB:
    """Decode a file that has no end marker; what it lacks besides is an error."""
    ends = [bytes((0xFF, _END))]
    if encoded.endswith(b"\xff"):  # half a marker; or a byte of the pixels, whose zero is among the padding
        ends.append(bytes((0, 0xFF, _END)))
    for end in ends if _has_all_scans(encoded) else []:
        with contextlib.suppress(ValueError):
            return _decode_fast(encoded + end, width, height)
    raise UnreadableImageError(_TRUNCATED)


def _read_segments(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker that has a length, with the content of its segment, as libjpeg finds them."""
    position = len(SIGNATURE)
    while (position := encoded.find(b"\xff", position) + 1) and position < len(encoded):
        marker = encoded[position]
        if marker == 0xFF:  # a fill byte: the next one may be the marker
            continue
        if marker == _END:
            return
        position += 1
        if marker not in _WITHOUT_LENGTH:
            end = position + int.from_bytes(encoded[position : position + 2])
            yield marker, encoded[position + 2 : end]
            position = max(end, position)


def _check_kind(marker: int, start_of_frame: bytes, encoded: bytes) -> None:
    """Refuse kinds of JPEG that nothing here decodes, or that take for ever."""
    bits = start_of_frame[0] if start_of_frame else 8
    if bits != 8:
        raise UnreadableImageError(f"a JPEG with {bits} bits per sample, which is not read; convert it to 8 bits")
    if marker in _PROGRESSIVE and encoded.count(bytes((0xFF, _SCAN))) > _MAX_SCANS:
        raise UnreadableImageError(f"a JPEG with more than {_MAX_SCANS} scans")


def _has_all_scans(encoded: bytes) -> bool:
    """Whether each coefficient of each component is there down to its last bit; False if that cannot be known."""
    lowest_bits: dict[int, list[int | None]] = {}
    is_progressive = False
    for marker, segment in _read_segments(encoded):
        if marker in _STARTS_OF_FRAME:
            if marker in _ARITHMETIC:  # its decoder takes what is missing for zeros, without a warning
                return False
            is_progressive = marker in _PROGRESSIVE
            lowest_bits = {component: [None] * _COEFFICIENTS for component in segment[6::3]}
        elif marker == _SCAN and segment:
            count = segment[0]
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
            if not is_progressive:
                first, last, bits = 0, _COEFFICIENTS - 1, 0
            for component in segment[1 : 1 + 2 * count : 2]:
                known = lowest_bits.get(component, [])
                known[first : last + 1] = [bits & 15] * len(known[first : last + 1])
    return bool(lowest_bits) and not any(any(bit != 0 for bit in known) for known in lowest_bits.values())
