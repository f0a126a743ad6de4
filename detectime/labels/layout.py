"""How the folders and files of data sets are called: parts of a split, folders without a meaning, what is no image."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from detectime.sources.names import fold_name
from detectime.sources.videos import VIDEO_SUFFIXES

SPLITS = frozenset(
    [
        *("train", "training", "trainval", "train_val", "val", "valid", "validation", "test", "testing"),
        *("eval", "evaluation", "dev"),
    ]
)
"""Names of the parts of a split, casefolded."""

LAYOUT = SPLITS | frozenset(
    [
        *("images", "image", "imgs", "img", "pictures", "photos", "frames", "jpegimages", "jpg", "jpeg", "png"),
        *("rgb", "color", "colour", "labels", "obj_train_data", "data", "dataset", "raw", "original", "default"),
    ]
)
"""Names of folders that tools put pictures into, casefolded: they say nothing about who is in them."""

_HAGRID_FOLDER = "train_val_"
_HIDDEN = r"(?:^|/)(?:\.[^/]|__MACOSX/|(?i:thumbs\.db$|desktop\.ini$|ehthumbs\.db$))"
_OTHERS = (
    "txt text md rst html htm pdf doc docx rtf log tex ipynb py sh bat yaml yml toml ini cfg json jsonl ndjson xml csv "
    "tsv xls xlsx ods parquet feather arrow npy npz mat pkl pickle h5 hdf5 pt pth onnx tfrecord record tfrecords db "
    "sqlite cache names labels cls zip tar gz tgz bz2 xz 7z rar zst z01 mp3 wav flac aac m4a ogg exe dll lnk url "
    "webloc license part crdownload tmp bak md5 sha256 sha1 aae xmp thm"
)
_OTHER_FILE = (
    rf"(?i)(?:\.(?:{'|'.join(_OTHERS.split())})$|(?:^|/)(?:readme|license|licence|copying|makefile|checksums)"
    r"(?:\.[^/]*)?$)"
)
_VIDEO = rf"(?i)(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})$"


def is_split(folder: str) -> bool:
    """Whether a folder is called as the part of a split.

    Examples
    --------
    >>> is_split("Train"), is_split("anna")
    (True, False)
    """
    return folder.strip().casefold() in SPLITS


def names_split(folder: str) -> bool:
    """Whether a word in the name of a folder is the part of a split, but for HaGRID's ``train_val_<class>``.

    Examples
    --------
    >>> names_split("asl_alphabet_train"), names_split("val2017"), names_split("train_val_ok")
    (True, True, False)
    """
    words = re.findall(r"[^\W\d_]+", folder.casefold())
    return is_split(folder) or (drop_hagrid_prefix(folder) == folder and not SPLITS.isdisjoint(words))


def drop_hagrid_prefix(folder: str) -> str:
    """Return the class of a folder of HaGRID, ``train_val_<class>``; the name itself of any other.

    Examples
    --------
    >>> drop_hagrid_prefix("train_val_ok"), drop_hagrid_prefix("ok")
    ('ok', 'ok')
    """
    return folder.removeprefix(_HAGRID_FOLDER) or folder


def simplify_name(name: str) -> str:
    """Return what a name has in common with others that people take for the same: letters and digits, without case.

    Examples
    --------
    >>> simplify_name("Thumbs Up") == simplify_name("thumbs_up")
    True
    """
    return re.sub(r"[\W_]+", "", fold_name(name).casefold()) or fold_name(name)


def find_similar(name: str, accepted: Iterable[str]) -> str | None:
    """Return the accepted name that differs from a name in case, blanks and punctuation alone; None: there is none.

    Examples
    --------
    >>> find_similar("Thumbs Up", ["ok", "thumbs_up"])
    'thumbs_up'
    """
    simple = simplify_name(name)
    return next((each for each in accepted if simplify_name(each) == simple), None)


def find_hidden_files(names: pa.Array) -> pa.Array:
    """Find what systems add: files that are hidden or in a hidden folder, ``__MACOSX``, ``Thumbs.db``.

    Parameters
    ----------
    names
        Paths as bytes, binary.

    Returns
    -------
    Array
        bool.

    Examples
    --------
    >>> find_hidden_files(pa.array([b"ok/a.jpg", b"ok/.DS_Store", b"__MACOSX/ok/a.jpg", b"ok/Thumbs.db"])).to_pylist()
    [False, True, True, True]
    """
    return pc.match_substring_regex(names, _HIDDEN)


def find_videos(names: pa.Array) -> pa.Array:
    """Find videos by their ending: bool.

    Examples
    --------
    >>> find_videos(pa.array([b"ok/a.jpg", b"ok/a.MP4"])).to_pylist()
    [False, True]
    """
    return pc.match_substring_regex(names, _VIDEO)


def find_other_files(names: pa.Array) -> pa.Array:
    """Find files that are no images by their ending, such as texts, tables, archives and sounds, but for videos: bool.

    A file of an unknown ending, or without one, may be an image: its content decides, once it is read.

    Examples
    --------
    >>> find_other_files(pa.array([b"ok/a.jpg", b"ok/a", b"ok/a.json", b"README"])).to_pylist()
    [False, False, True, True]
    """
    return pc.match_substring_regex(names, _OTHER_FILE)
