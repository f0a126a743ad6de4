"""JPEG: a fast decoder that tells what is missing, and Pillow for the kinds that it declines."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import simplejpeg
from PIL import Image

from detectime.decoding.contract import RGB, Header, UnreadableImageError, check_size, read_orientation
from detectime.decoding.naming import CONVERTED

SIGNATURE = b"\xff\xd8"
_PERSONAL = (0xE1, 0xED, 0xFE)  # Exif and XMP, IPTC, comments

_TRUNCATED = "truncated: the JPEG's data ends early"
_TRUNCATED_HEADER = "truncated: the JPEG ends in its header"
_DAMAGED = "damaged: a part of the JPEG's data was lost or changed"
# Of decoders that decline a kind of JPEG, not of those that found damage.
_DECLINED = ("tjDecompress", "Unsupported color conversion")
# Warnings after which the pixels may be right all the same.
_HARMLESS = ("extraneous bytes", "unknown JFIF revision", "bad ICC marker", "Invalid SOS parameters")
_STRAYS = re.compile(r"(\d+) extraneous bytes before marker 0x(..)")
_MAX_STRAYS = 8  # bytes that webcams write behind the pixels of a restart interval, or of the image
_APP0, _APP1, _APP2, _INTERVAL, _SCAN, _END = 0xE0, 0xE1, 0xE2, 0xDD, 0xDA, 0xD9
_METADATA = (*range(0xE0, 0xF0), 0xFE)
_EXIF = b"Exif\0\0"
_SCAN_START = re.compile(rb"\xff\xda")  # found in a third of the time that `bytes.count` takes
_SCAN_END = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
# Decoded as pixels where pixels are missing: without FF, and more than blocks beyond the image's edge can take.
_JUNK = np.random.default_rng(0).integers(0, 255, 4096, dtype=np.uint8).tobytes()
_OMITTED = 4  # zero bytes that an arithmetic coder may have left out at its end
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}  # a stuffed byte, TEM, restarts, the start
_STARTS_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_ARITHMETIC = range(0xC9, 0xD0)
_JPEG_LS = 0xF7
_COEFFICIENTS = 64  # of a block
_MIN_FEEDS = 3  # bytes that are LF in text, to judge what became of them
_MAX_SCANS = 500  # each goes over the whole image: a small file could keep a decoder busy for hours
_MAX_SEQUENTIAL_SCANS = 16  # one for each component would do


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
    with _name_converted(encoded):
        return _read_header(encoded, max_pixels)


def drop_metadata(encoded: bytes) -> bytes:
    r"""Return a JPEG without Exif, XMP, IPTC and comments, such as place and camera; its pixels stay as they are.

    Parameters
    ----------
    encoded
        A whole file. What lies behind its end, such as a second picture, is dropped too.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> plain = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    >>> drop_metadata(plain[:2] + b"\xff\xfe\x00\x06Anna" + plain[2:]) == plain
    True
    """
    parts, position = [], 0
    for marker, segment, end in _read_segments(encoded):
        if marker in _PERSONAL:
            start = end - len(segment) - 4
            parts.append(encoded[position:start])
            position = end
        elif marker == _END:
            return b"".join([*parts, encoded[position:end]])
    return b"".join([*parts, encoded[position:]])


def _read_header(encoded: bytes, max_pixels: int) -> Header:
    exif: bytes | None = None
    start_of_frame = b""
    is_reducible = False
    for marker, segment, _ in _read_segments(encoded):
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
    else:
        raise UnreadableImageError(_TRUNCATED_HEADER)
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
    with _name_converted(encoded):
        try:
            pixels = _decode_fast(encoded, width, height)
        except ValueError as error:
            # The decoder fills missing data with grey and only warns. It reports its first warning alone.
            refusal = error
        else:
            if _is_arithmetic(encoded):  # its decoder takes what is missing for zeros, without a warning
                _check_ends(encoded, pixels, lambda other: _decode_fast(other, width, height, strict=False))
            return pixels
        if str(refusal).startswith(_DECLINED):
            return _decode_by_pillow(encoded, max_pixels)
        if "premature end" in str(refusal).lower():
            return _decode_without_end(encoded, width, height, refusal)
        if any(warning in str(refusal) for warning in _HARMLESS):
            return _decode_tidied(encoded, width, height, max_pixels)
        raise UnreadableImageError(_DAMAGED if _has_end(encoded) else _TRUNCATED) from refusal


def _decode_fast(encoded: bytes, width: int, height: int, *, strict: bool = True) -> RGB:
    return np.asarray(simplejpeg.decode_jpeg(encoded, "RGB", min_width=width, min_height=height, strict=strict))


def _decode_by_pillow(encoded: bytes, max_pixels: int) -> RGB:
    """Decode a kind that the fast decoder declines, such as sampling factors 4x2."""
    has_end = _has_end(encoded)
    if not _has_all_scans(encoded) and not (has_end and _is_arithmetic(encoded)):
        raise UnreadableImageError(_TRUNCATED)
    refusal = UnreadableImageError(_TRUNCATED)
    for end in [b""] if has_end else _make_ends(encoded):
        try:
            pixels = _load_by_pillow(encoded + end, max_pixels)
            _check_ends(encoded + end, pixels, lambda other: _load_by_pillow(other, max_pixels))
        except UnreadableImageError as error:
            refusal = error
        else:
            return pixels
    raise refusal


def _load_by_pillow(encoded: bytes, max_pixels: int) -> RGB:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which does no harm
        try:
            image = Image.open(io.BytesIO(encoded), formats=("JPEG",))
            check_size(*image.size, max_pixels)
            image.load()
        except OSError as error:  # also UnidentifiedImageError
            raise UnreadableImageError(_TRUNCATED if "truncated" in str(error) else _DAMAGED) from error
    return np.array(image.convert("RGB"))


def _check_ends(encoded: bytes, pixels: RGB, decode_again: Callable[[bytes], RGB]) -> None:
    """Refuse a JPEG that lacks data, of which its decoder does not tell.

    It is decoded again with junk behind each scan. Where all pixels are there, the decoder skips the junk; otherwise
    the junk becomes pixels.
    """
    for junk in (_JUNK, _JUNK[::-1]):  # by chance, the first can stand for the pixels that are missing
        extended = _insert_junk(encoded, junk)
        try:
            is_whole = np.array_equal(pixels, decode_again(extended))
        except ValueError:  # of junk
            is_whole = False
        if not is_whole:
            raise UnreadableImageError(_TRUNCATED)


def _insert_junk(encoded: bytes, junk: bytes) -> bytes:
    """Return the file with junk behind each scan; wrong restart markers are an error."""
    parts, interval = [SIGNATURE], 0
    if _is_arithmetic(encoded):
        junk = bytes(_OMITTED) + junk
    for marker, segment, end in _read_segments(encoded):
        parts.append(_make_segment(marker, segment))
        if marker == _INTERVAL:
            interval = int.from_bytes(segment[:2])
        elif marker == _SCAN:
            coded = encoded[end : _find_scan_end(encoded, end)].rstrip(b"\xff")
            restarts = [found[1][0] & 7 for found in _RESTART.finditer(coded)]
            if restarts != [k & 7 for k in range(len(restarts) if interval else 0)]:
                raise UnreadableImageError(_DAMAGED)
            parts += [coded, junk]
            if interval:  # the data may end with an interval
                parts += [bytes((0xFF, 0xD0 | len(restarts) & 7)), junk]
    return b"".join(parts)


def _decode_tidied(encoded: bytes, width: int, height: int, max_pixels: int) -> RGB:
    """Decode a file that the decoder warned of, without what does no harm, so that nothing else remains unnoticed."""
    encoded = _tidy(encoded)
    damage = _DAMAGED if encoded.endswith(bytes((0xFF, _END))) else _TRUNCATED
    for _ in range(_MAX_SEQUENTIAL_SCANS):
        try:
            return _decode_fast(encoded, width, height)
        except ValueError as error:
            refusal = error
        if "premature end" in str(refusal).lower():
            return _decode_without_end(encoded, width, height, refusal)
        strays = _STRAYS.search(str(refusal))
        tidied = _remove_padding(encoded, int(strays[2], 16)) if strays else encoded
        if tidied == encoded:
            if strays and int(strays[1]) <= _MAX_STRAYS:
                _load_by_pillow(encoded, max_pixels)  # whether the data ends early
                return _decode_fast(encoded, width, height, strict=False)
            break
        encoded = tidied
    raise UnreadableImageError(damage) from refusal


def _tidy(encoded: bytes) -> bytes:
    """Return the file without stray bytes behind metadata, and with what is wrong in segments and no matter put right.

    Stray bytes behind a table belong to it: its length or its bytes were changed.
    """
    parts, is_progressive = [SIGNATURE], False
    for marker, segment, end in _read_segments(encoded):
        coded = b""
        if marker not in (*_METADATA, _SCAN, _END) and encoded[end : encoded.find(b"\xff", end)].strip(b"\0"):
            raise UnreadableImageError(_DAMAGED)
        if marker in _STARTS_OF_FRAME:
            is_progressive = marker in _PROGRESSIVE
        if marker == _APP2 and segment.startswith(b"ICC_PROFILE"):
            continue
        if marker == _APP0 and segment.startswith(b"JFIF\0"):
            segment = segment[:5] + b"\1\1" + segment[7:]
        elif marker == _SCAN:
            coded = encoded[end : _find_scan_end(encoded, end)]
            if not is_progressive and segment:
                segment = segment[: 1 + 2 * segment[0]] + bytes((0, _COEFFICIENTS - 1, 0))
        parts.append(_make_segment(marker, segment) + coded)
    return b"".join(parts)


def _remove_padding(encoded: bytes, before: int) -> bytes:
    """Remove zeros and FF at the end of the scans that are followed by a marker."""
    parts = [SIGNATURE]
    for marker, segment, end in _read_segments(encoded):
        parts.append(_make_segment(marker, segment))
        if marker == _SCAN:
            stop = _find_scan_end(encoded, end)
            coded = encoded[end:stop]
            if encoded[stop + 1 : stop + 2] == bytes((before,)):
                data = coded.rstrip(b"\0\xff")
                # A byte FF of the data is followed by a zero.
                coded = data + (b"\xff\0" if coded.startswith(b"\xff\0", len(data)) else b"")
            parts.append(coded)
    return b"".join(parts)


def _decode_without_end(encoded: bytes, width: int, height: int, refusal: ValueError) -> RGB:
    """Decode a file that has no end marker; what it lacks besides is an error."""
    if "premature end of jpeg file" in str(refusal).lower() and _has_all_scans(encoded):
        for end in _make_ends(encoded):
            with contextlib.suppress(ValueError):
                return _decode_fast(encoded + end, width, height)
    raise UnreadableImageError(_TRUNCATED) from refusal


def _make_ends(encoded: bytes) -> list[bytes]:
    """Return what a file without an end marker may lack."""
    ends = [bytes((0xFF, _END))]
    if encoded.endswith(b"\xff"):  # half a marker; or a byte of the pixels, whose zero is among the padding
        ends.append(bytes((0, 0xFF, _END)))
    return ends


@contextlib.contextmanager
def _name_converted(encoded: bytes) -> Iterator[None]:
    """Say of a file that cannot be read if its line ends were converted, as if it were text."""
    try:
        yield
    except Exception as error:  # whatever it is, it comes from that
        feeds = encoded.count(b"\n")
        if feeds >= _MIN_FEEDS and encoded.count(b"\r\n") == feeds:  # by chance, one in 256 has a CR before it
            raise UnreadableImageError(CONVERTED) from error
        raise


def _read_segments(encoded: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each marker that has a length, the content of its segment, and its end; then the end marker if it is there.

    They are those that libjpeg finds.
    """
    position = len(SIGNATURE)
    while (position := encoded.find(b"\xff", position) + 1) and position < len(encoded):
        marker = encoded[position]
        if marker == 0xFF:  # a fill byte: the next one may be the marker
            continue
        position += 1
        if marker == _END:
            yield marker, b"", position
            return
        if marker not in _WITHOUT_LENGTH:
            end = max(position, position + int.from_bytes(encoded[position : position + 2]))
            yield marker, encoded[position + 2 : end], end
            position = _find_scan_end(encoded, end) if marker == _SCAN else end


def _find_scan_end(encoded: bytes, start: int) -> int:
    """Return where the data of a scan ends: at the next marker that is no restart."""
    found = _SCAN_END.search(encoded, start)
    return found.start() if found else len(encoded)


def _make_segment(marker: int, content: bytes) -> bytes:
    length = b"" if marker == _END else (len(content) + 2).to_bytes(2)
    return bytes((0xFF, marker)) + length + content


def _has_end(encoded: bytes) -> bool:
    return any(marker == _END for marker, _, _ in _read_segments(encoded))


def _is_arithmetic(encoded: bytes) -> bool:
    frame = next((marker for marker, _, _ in _read_segments(encoded) if marker in _STARTS_OF_FRAME), None)
    return frame in _ARITHMETIC


def _check_kind(marker: int, start_of_frame: bytes, encoded: bytes) -> None:
    """Refuse kinds of JPEG that nothing here decodes, or that take for ever."""
    bits = start_of_frame[0] if start_of_frame else 8
    if bits != 8:
        raise UnreadableImageError(f"a JPEG with {bits} bits per sample, which is not read; convert it to 8 bits")
    limit = _MAX_SCANS if marker in _PROGRESSIVE else _MAX_SEQUENTIAL_SCANS
    # The first count is fast, and includes what lies in thumbnails and behind the end.
    if len(_SCAN_START.findall(encoded)) > limit and _count_scans(encoded) > limit:
        raise UnreadableImageError(f"a JPEG with more than {limit} scans")


def _count_scans(encoded: bytes) -> int:
    return sum(marker == _SCAN for marker, _, _ in _read_segments(encoded))


def _has_all_scans(encoded: bytes) -> bool:
    """Whether each coefficient of each component is there down to its last bit; False if that cannot be known."""
    lowest_bits: dict[int, list[int | None]] = {}
    is_progressive = False
    for marker, segment, _ in _read_segments(encoded):
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
