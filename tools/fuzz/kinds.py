"""The kinds of inputs: how their files end, words of their formats, and how their content is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tools.fuzz import containers, mutate, tables, trees


@dataclass(frozen=True)
class Kind:
    """A kind of inputs.

    Parameters
    ----------
    name
        In reports, in the names of files, and of its function in `targets`.
    ending
        Of a file of this kind.
    tokens
        Byte strings that its format knows, which are put into inputs.
    change
        Makes a strategy for changed content from real inputs; None: only bytes are changed.
    repair
        Makes checksums right after bytes were changed.
    """

    name: str
    ending: str
    tokens: tuple[bytes, ...] = ()
    change: Callable[[Sequence[bytes]], st.SearchStrategy[bytes]] | None = None
    repair: Callable[[bytes], bytes] | None = None


def _split(tokens: str) -> tuple[bytes, ...]:
    return tuple(tokens.encode().split())


_JPEG = tuple(bytes([0xFF, marker]) for marker in (0xD8, 0xD9, 0xDA, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1, 0xEE, 0xD0))
_JPEG_2000 = (*(bytes([0xFF, marker]) for marker in (0x4F, 0x51, 0x52, 0x90, 0x93, 0xD9)), b"ihdr", b"jp2c")
_PNG = _split("IHDR PLTE IDAT IEND tRNS eXIf iCCP acTL fcTL fdAT zTXt")
_WEBP = (*_split("RIFF WEBP VP8L VP8X ALPH ANIM ANMF EXIF"), b"VP8 ")
_GIF = (b"GIF89a", b"GIF87a", b"!\xf9\x04", b"!\xff\x0bNETSCAPE2.0", b",", b";")
_TIFF = (b"II*\0", b"MM\0*", b"\0\1\3\0", b"\x17\1\4\0", b"\x42\1\3\0", b"\x03\1\3\0")
_PNM = (*_split("P1 P2 P3 P4 P5 P6 #"), b"\n", b" 65535 ", b" 0 ", b" -1 ")
_BOXES = _split("ftyp moov mdat trak stts stsc stsz stco ctts stss elst edts")
_MATROSKA = (b"\x1aE\xdf\xa3", b"\x1fC\xb6u", b"\x47", b"\0\0\1\xba", b"\0\0\1\xb3", b"idx1", b"movi")
_HEIF = _split("ftyp meta iprp ipco ispe irot imir iloc iinf pitm grid auxC")
_ZIP = (*(b"PK" + two for two in (b"\1\2", b"\3\4", b"\5\6", b"\6\6", b"\6\7", b"\7\x08")), b"\1\0\x10\0", b"../")
_TAR = (b"ustar\0", b"ustar  \0", b"0000644\0", b"\x80\0\0\0", b"././@LongLink", b"GNU.sparse.major=1", b"17 size=-1\n")
_JSON = (*_split('null NaN Infinity -1 1e999 true [] {} "" \\ud800 \\u0000'), b"[" * 2000)
_CSV = (b",", b";", b"\t", b'"', b"\r", b"\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", *_split("NaN 1e999 -1 ../ \u202e"))
_XML = (*_split("< > & &amp; <![CDATA[ <!-- NaN -1 1e999 <?xml"), b"<!DOCTYPE a [<!ENTITY b 'c'>]>")
_YAML = (
    b"- ",
    b": ",
    b"\t",
    b"|\n",
    b"&a ",
    b"<<: ",
    b"!!python/object:os.system ",
    *_split("null ~ [ { *a 1e999 .nan"),
)
_WORDS = (b" ", b"\n", b"\xef\xbb\xbf", *_split("-1 nan 1e999 0.5"))
_NAMES = (b"\n", b"\xff", b" ", *_split("/ .. .jpg _0001 e\u0301 é"))
_PARQUET = (b"PAR1", b"ARROW:schema", b"detectime.version", b"\x15\0", b"\x15\2", b"\x19\x1c", b"\xff" * 4 + b"\x0f")
_H5 = (b"\x89HDF\r\n\x1a\n", *_split("OHDR TREE SNOD HEAP GCOL"), b"\xff" * 8)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("jpeg", "jpg", _JPEG),
        Kind("png", "png", _PNG, repair=mutate.repair_png),
        Kind("webp", "webp", _WEBP),
        Kind("gif", "gif", _GIF),
        Kind("tiff", "tif", _TIFF),
        Kind("bmp", "bmp", (b"BM", b"(\0\0\0", b"\x7c\0\0\0")),
        Kind("avif", "avif", _HEIF),
        Kind("jpeg2000", "jp2", _JPEG_2000),
        Kind("pnm", "ppm", _PNM),
        Kind("heic", "heic", _HEIF),
        Kind("csv_frames", "csv", _CSV, tables.change_csv),
        Kind("csv_spans", "csv", _CSV, tables.change_csv),
        Kind("parquet_labels", "parquet", _PARQUET, tables.change_parquet),
        Kind("hagrid", "json", _JSON, trees.change_json),
        Kind("coco", "json", _JSON, trees.change_json),
        Kind("cvat", "xml", _XML, trees.change_xml),
        Kind("voc", "xml", _XML, trees.change_xml),
        Kind("yolo_txt", "txt", _WORDS, tables.change_words),
        Kind("yolo_yaml", "yaml", _YAML, trees.change_yaml),
        Kind("truth_json", "json", _JSON, trees.change_json),
        Kind("names", "txt", _NAMES, tables.make_names),
        Kind("zip", "zip", _ZIP, containers.make_zip),
        Kind("tar", "tar", _TAR, containers.make_tar, mutate.repair_tar),
        Kind("webdataset", "tar", _TAR, containers.make_tar, mutate.repair_tar),
        Kind("mp4", "mp4", _BOXES),
        Kind("video", "mkv", _MATROSKA),
        Kind("h5", "h5", _H5, containers.change_h5),
        Kind("run_json", "json", _JSON, trees.change_json),
        Kind("frames_parquet", "parquet", _PARQUET, tables.change_parquet),
        Kind("detections_parquet", "parquet", _PARQUET, tables.change_parquet),
        Kind("outcomes_parquet", "parquet", _PARQUET, tables.change_parquet),
        Kind("shard", "parquet", _PARQUET, tables.change_parquet),
        Kind("decisions", "jsonl", _JSON, trees.change_json_lines),
        Kind("hands_json", "json", _JSON, trees.change_json),
        Kind("cvat_decisions", "xml", _XML, trees.change_xml),
        Kind("export_json", "json", _JSON, trees.change_json),
        Kind("split_csv", "csv", _CSV, tables.change_csv),
        Kind("face_cache", "json", _JSON, trees.change_json),
        Kind("config_yml", "yml", _YAML, trees.change_yaml),
    )
}
"""All kinds by name."""
