"""What a file is that nothing here decodes, and what to do about it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import TiffImagePlugin

_CONVERT = "which is not read; convert it to JPEG or PNG"
_VIDEO = "a video, not an image; give it with source_type: videos"
_ARCHIVE = "an archive, not an image; unpack it, or give it with source_type: archives"
_PACKED = "a compressed file, not an image; unpack it"
_RAW = f"a camera raw file, {_CONVERT}"
_LINK = "a link of Windows or macOS, not the image itself; copy the file that it leads to"
_BASE64 = "an image in base64 text; decode it to bytes"
_DATA = "a data file, not an image; give the image itself"
CONVERTED = "a file whose bytes were changed as if it were text; copy it again as binary"
"""Said of files whose line ends or characters were converted."""

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself; fetch the images with: git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer, not the image itself; fetch the images with: git annex get"),
    (b"\xff\x0a", f"a JPEG XL image, {_CONVERT}"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", f"a JPEG XL image, {_CONVERT}"),
    (b"II\xbc\x01", f"a JPEG XR image, {_CONVERT}"),
    (b"qoif", f"a QOI image, {_CONVERT}"),
    (b"8BPS", f"a Photoshop file, {_CONVERT}"),
    (b"gimp xcf", f"a GIMP file, {_CONVERT}"),
    (b"v/1\x01", f"an OpenEXR image, {_CONVERT}"),
    (b"#?RADIANCE", f"an HDR image, {_CONVERT}"),
    (b"\0\0\x01\0", f"an icon, {_CONVERT}"),
    (b"%PDF", f"a PDF document, {_CONVERT}"),
    (b"%!PS", f"a PostScript document, {_CONVERT}"),
    *((beginning, _RAW) for beginning in (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM", b"FOVb")),
    (b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (b"FLV\x01", _VIDEO),
    (b"OggS", _VIDEO),
    (b"AT&TFORM", f"a DjVu document, {_CONVERT}"),
    (b"bplist00", _DATA),  # a property list of macOS
    (b"\0\0\x01\xba", _VIDEO),  # MPEG
    (b"\0\0\x01\xb3", _VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", _VIDEO),  # WMV
    (b"PK\x03\x04", _ARCHIVE),
    (b"PK\x05\x06", _ARCHIVE),
    *((beginning, _PACKED) for beginning in (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh", b"(\xb5/\xfd")),
    (b"\0\x05\x16\x07", "a macOS AppleDouble file (such as ._a.jpg), which holds no image; leave it out"),
    (b"\0\0\0\x01Bud1", "a .DS_Store file of macOS, which holds no image; leave it out"),
    (b"L\0\0\0\x01\x14\x02\0", _LINK),
    (b"[InternetShortcut]", _LINK),
    (b"book\0\0\0\0mark", _LINK),
    *((beginning, _DATA) for beginning in (b"\x93NUMPY", b"\x89HDF", b"PAR1", b"SQLite format 3")),
    (b"\xef\xbf\xbd", CONVERTED),  # what stands for bytes that are no UTF-8
    (b"\xc3\xbf\xc3\x98", CONVERTED),  # the beginning of a JPEG, from Latin-1 to UTF-8
    (b"\x89PNG\n\x1a\n", CONVERTED),  # without the carriage return
    (b"\x89PNG\r\r\n", CONVERTED),
    (b"/9j/", _BASE64),
    (b"iVBORw0KGgo", _BASE64),
    (b"data:image/", _BASE64),
)
_LONGEST = 64  # bytes that a beginning has at most, with its byte order mark
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PACKET = 188  # bytes of a packet of MPEG-TS
_AVI, _WAV, _TAR, _DICOM = (8, b"AVI "), (8, b"WAVE"), (257, b"ustar"), (128, b"DICM")

TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of either byte order, and of either size of offsets."""
_REDUCED, _MAKE, _SUB_IFDS, _DNG_VERSION = 0x00FE, 0x010F, 0x014A, 0xC612  # tags

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]+")
_COMMENTS = rb"(<!--.*?-->\s*)*"
_MARKUP = (
    (
        _COMMENTS + rb"(<!doctype html|<html|<head|<body)",
        "an HTML page, perhaps a server's error message; download the image again",
    ),
    (rb"(<\?xml[^>]*>\s*)?" + _COMMENTS + rb"(<!doctype svg[^>]*>\s*)?<svg", f"an SVG drawing, {_CONVERT}"),
    (rb"<\?xml|<[a-z]+[^<]*>", "XML, perhaps a server's error message; download the image again"),
    (rb"[{\[]\s*([\"{\[\d]|[}\]])", "JSON, perhaps a server's error message; download the image again"),
)


def name_content(encoded: bytes) -> str | None:
    """Say what a file is that is no image, or an image of a kind that is not read, and what to do about it.

    Returns
    -------
    str or None
        One short sentence; None if that is unknown.

    Examples
    --------
    >>> name_content(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer, not the image itself; fetch the images with: git lfs pull'
    >>> name_content(b"\\x00\\x01") is None
    True
    """
    start = encoded[:_LONGEST].removeprefix(_BYTE_ORDER_MARK)
    for beginning, name in _BEGINNINGS:
        if start.startswith(beginning):
            return name
    if encoded[: 4 * _PACKET : _PACKET] == b"\x47" * 4:
        return _VIDEO
    if encoded.startswith(b"RIFF") and encoded.startswith(_WAV[1], _WAV[0]):
        return "a sound, not an image; leave it out"
    if read_brand(encoded) == "raw" or name_raw(encoded):
        return _RAW
    if read_brand(encoded) == "video" or (encoded.startswith(b"RIFF") and encoded.startswith(_AVI[1], _AVI[0])):
        return _VIDEO
    if encoded.startswith(_TAR[1], _TAR[0]):
        return _ARCHIVE
    if encoded.startswith(_DICOM[1], _DICOM[0]):
        return f"a DICOM file, {_CONVERT}"
    if not encoded.strip(b"\0"):
        return "only zero bytes: the file was never written to its end; copy it again"
    return _name_text(encoded[:4096])


def read_brand(encoded: bytes) -> str | None:
    """Return what a file of ISO boxes holds: ``AVIF``, ``HEIC``, ``raw``, ``video``; None if it is another file.

    Examples
    --------
    >>> read_brand(b"\\0\\0\\0\\x18ftypmif1\\0\\0\\0\\0mif1heic")
    'HEIC'
    """
    if encoded[4:8] != b"ftyp":
        is_quicktime = encoded[4:8] in (b"moov", b"mdat")  # of the old kind
        is_padding = encoded.startswith(b"\0\0") and encoded[4:8] in (b"wide", b"free", b"skip")  # before it
        return "video" if is_quicktime or is_padding else None
    end = min(int.from_bytes(encoded[:4]), 1024)
    major = encoded[8:12]
    brands = {major, *(encoded[k : k + 4] for k in range(16, end, 4))}
    if brands & _AVIF:
        return "AVIF"
    if brands & _HEIC:
        return "HEIC"
    return "raw" if major == b"crx " else "video"


def name_raw(encoded: bytes) -> str | None:
    """Name a camera raw file that is built as a TIFF, whose first image is a thumbnail; None if it is none.

    Examples
    --------
    >>> name_raw(b"II*\\0\\x10\\0\\0\\0CR\\x02\\0")
    'a camera raw file, which is not read; convert it to JPEG or PNG'
    """
    if not encoded.startswith(TIFF_BEGINNINGS):
        return None
    if encoded[8:10] == b"CR":  # Canon
        return _RAW
    tags = read_tags(encoded)
    is_thumbnail = _MAKE in tags and _SUB_IFDS in tags and bool(tags.get(_REDUCED, 0))  # Nikon, Sony, Pentax
    return _RAW if _DNG_VERSION in tags or is_thumbnail else None


def read_tags(encoded: bytes) -> Mapping[int, Any]:
    """Read the tags of the first image of a TIFF; none if they are broken.

    Examples
    --------
    >>> read_tags(b"II*\\0\\x08\\0\\0\\0")
    {}
    """
    stream = io.BytesIO(encoded)
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(stream.read(16 if encoded[2:3] in b"+\0" else 8))
        stream.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken tags
            tags.load(stream)
            return dict(tags)
    except Exception:  # hostile bytes make it raise all kinds
        return {}


def _name_text(start: bytes) -> str | None:
    """Name text by its beginning."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):  # byte order marks of UTF-16
        start = start.decode("utf-16", errors="replace").encode()
    if not _TEXT.fullmatch(start):
        return None
    text = start.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        return "only white space; copy the image again"
    for pattern, name in _MARKUP:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            return name
    try:
        start[: start.rfind(b" ") if len(start) == 4096 else None].decode()
    except UnicodeDecodeError:
        return None
    return "text, not an image; copy the image again"
