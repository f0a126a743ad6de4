"""How the folders and files of data sets are called: parts of a split, folders without a meaning, what is no image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Flags
from detectime.notes import Note, note_found
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

MASKS = frozenset(
    [
        *("mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "annotation"),
        *("annotations", "gt", "groundtruth", "ground_truth", "depth", "depths", "normals", "flow", "heatmaps"),
    ]
)
"""Names of folders, and ends of file names, of pictures that belong to others: masks and the like, casefolded."""

_GESTURES = frozenset(
    (
        "call dislike fist four grabbing grip handheart holy like littlefinger middlefinger mute nogesture ok okay one "
        "palm peace peaceinverted point pointing rock stop stopinverted takepicture three threegun thumbsdown thumbsup "
        "thumbindex timeout two twoup twoupinverted victory wave xsign five zero open close swipe pinch none nothing "
        "space del delete background neutral hello yes no love iloveyou clap"
    ).split()
)
"""Names of gestures that many data sets have, as letters alone; letters of an alphabet beside these."""

_PERSONS = "user|person|people|subject|subj|sub|participant|signer|actor|speaker|student|performer|volunteer|id|s|p|u"
_RECORDINGS = "session|sess|take|rec|recording|video|vid|clip|day|part|run|trial|seq|sequence|set|scene"
_VIEWS = "cam|camera|view|angle|kinect|sensor|fold|batch"
_NUMBERED = re.compile(rf"(?i)0\d+|(?:{_PERSONS}|{_RECORDINGS}|{_VIEWS})[\W_]*\d+")
_RECORDING = re.compile(rf"(?i)(?:{_RECORDINGS})[\W_]*\d+|(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d")
_VARIANT = re.compile(
    rf"(?i)(?:{_VIEWS})[\W_]*\d+|\d{{2,4}}x\d{{2,4}}|originals?|orig|raw|(?:pre)?processed|aug|augmented|augmentations?|"
    r"resized|cropped|crops|flipped|mirrored|rotated|jpe?g|png|rgb|colou?r|gr[ae]y|gr[ae]yscale|depth|ir|infrared|left|"
    r"right|front|side|day|night|indoors?|outdoors?"
)

ENDING = r"\.[A-Za-z][A-Za-z0-9]{1,4}$"
"""The ending of a picture's file: not the number in ``frame.0001``."""

ROBOFLOW = r"_(?:jpg|jpeg|png|webp|bmp)\.rf\."
"""What Roboflow adds to the name of a picture, whatever its case, before a hash and the ending."""

LABEL_STUDIO = r"[0-9a-f]{8}-"
"""What Label Studio puts before the name of a picture."""

_HAGRID_FOLDER = "train_val_"
_SYSTEM_FOLDERS = r"__MACOSX|@eaDir|@Recycle|#recycle|#snapshot|\$RECYCLE\.BIN|lost\+found|System Volume Information"
_HIDDEN = rf"(?:^|/)(?:\.[^/]|(?:{_SYSTEM_FOLDERS})/|(?i:thumbs\.db$|desktop\.ini$|ehthumbs\.db$))"
_OTHERS = (
    "txt text md rst html htm pdf doc docx rtf odt epub ppt pptx log tex ipynb py sh bat yaml yml toml ini cfg json "
    "jsonl ndjson xml csv tsv xls xlsx ods parquet feather arrow npy npz mat pkl pickle h5 hdf5 pt pth onnx tfrecord "
    "record tfrecords db sqlite cache names labels cls zip tar gz tgz bz2 xz 7z rar zst z01 cbz cbr jar apk iso mp3 "
    "wav flac aac m4a ogg exe dll lnk url webloc license part crdownload tmp bak md5 sha256 sha1 aae xmp thm"
)
_OTHER_FILE = (
    rf"(?i)(?:\.(?:{'|'.join(_OTHERS.split())})$|(?:^|/)(?:readme|license|licence|copying|makefile|checksums)"
    r"(?:\.[^/]*)?$)"
)
_VIDEO = rf"(?i)(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})$"
_MASK_ENDING = re.compile(rf"[_.-](?:{'|'.join(sorted(MASKS))})$")
_MASK_WORD = rf"(?i)(?:^|[/_.-])(?:{'|'.join(sorted(MASKS))})[/.]"
_LEAST_MASKS = 0.5  # of the files called as masks that must belong to a picture, so that all of them are masks
_NO_PICTURES = {
    "hidden": ("file is hidden or of the system, and left out", "files are hidden or of the system, and left out"),
    "videos": (
        "file is a video, not an image, and left out; `source_type: videos` takes the frames of videos instead",
        "files are videos, not images, and left out; `source_type: videos` takes the frames of videos instead",
    ),
    "other_files": (
        "file is no image, as its ending says, and left out",
        "files are no images, as their endings say, and left out",
    ),
    "not_utf8": (
        "file is left out, since its name is not UTF-8; rename it",
        "files are left out, since their names are not UTF-8; rename them",
    ),
}


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


def is_gesture(folder: str) -> bool:
    """Whether a folder is called as a gesture of many data sets, perhaps behind a number, or as a letter.

    Examples
    --------
    >>> is_gesture("01_palm"), is_gesture("Thumbs Up"), is_gesture("A"), is_gesture("anna")
    (True, True, True, False)
    """
    name = re.sub(r"[\W\d_]+", "", drop_hagrid_prefix(folder).casefold())
    return name in _GESTURES or (len(name) == 1 and folder.strip().casefold() == name)


def is_numbered(folder: str) -> bool:
    """Whether a folder is called as one of many persons or recordings: ``00``, ``user_12``.

    Examples
    --------
    >>> is_numbered("00"), is_numbered("user_12"), is_numbered("7"), is_numbered("anna")
    (True, True, False, False)
    """
    return _NUMBERED.fullmatch(folder.strip()) is not None


def is_recording(folder: str) -> bool:
    """Whether a folder is called as one of several recordings, perhaps of the same persons: ``day1``, ``2024-05-01``.

    Examples
    --------
    >>> is_recording("Day 1"), is_recording("2024-05-01"), is_recording("user_1"), is_recording("anna")
    (True, True, False, False)
    """
    return _RECORDING.fullmatch(folder.strip()) is not None


def is_variant(folder: str) -> bool:
    """Whether a folder is called as the view, or the copies, that others of the same persons differ from.

    Examples
    --------
    >>> is_variant("cam1"), is_variant("augmented"), is_variant("640x480"), is_variant("anna")
    (True, True, True, False)
    """
    return _VARIANT.fullmatch(folder.strip()) is not None


def drop_hagrid_prefix(folder: str) -> str:
    """Return the class of a folder of HaGRID, ``train_val_<class>``; the name itself of any other.

    Examples
    --------
    >>> drop_hagrid_prefix("train_val_ok"), drop_hagrid_prefix("ok")
    ('ok', 'ok')
    """
    return folder.removeprefix(_HAGRID_FOLDER) or folder


def decode_names(names: pa.Array) -> pa.Array:
    """Return the names of a listing, bytes, as large_string; null where they are null or not UTF-8.

    Examples
    --------
    >>> decode_names(pa.array([b"a.jpg", b"\\xff.jpg"])).to_pylist()
    ['a.jpg', None]
    """
    try:
        return names.cast(pa.large_string())
    except pa.ArrowInvalid:
        return pa.array(list(map(_decode_name, names.to_pylist())), pa.large_string())


def _decode_name(name: bytes | None) -> str | None:
    try:
        return None if name is None else name.decode()
    except UnicodeDecodeError:
        return None


def find_no_pictures(names: pa.Array, paths: pa.Array) -> dict[str, Flags]:
    """Find what is no picture in a listing, by the names alone.

    A file of an unknown ending, or without one, may be a picture: its content decides, once it is read.

    Parameters
    ----------
    names
        Of the listing, as bytes.
    paths
        The same, decoded.

    Returns
    -------
    dict
        Which files are ``hidden`` or of the system, which are ``videos``, which are ``other_files`` by their endings
        (texts, tables, archives, sounds), and which have names that are ``not_utf8``. No file is two of these.

    Examples
    --------
    >>> names = pa.array([b"ok/a.jpg", b"ok/a", b"ok/@eaDir/a.jpg", b"ok/a.MP4", b"README", b"ok/\\xff.jpg"])
    >>> {kind: mask.nonzero()[0].tolist() for kind, mask in find_no_pictures(names, decode_names(names)).items()}
    {'hidden': [2], 'videos': [3], 'other_files': [4], 'not_utf8': [5]}
    """
    found: dict[str, Flags] = {}
    taken = np.zeros(len(names), bool)
    for kind, pattern in {"hidden": _HIDDEN, "videos": _VIDEO, "other_files": _OTHER_FILE}.items():
        mask = pc.match_substring_regex(names, pattern).to_numpy(zero_copy_only=False) & ~taken
        found[kind] = mask
        taken |= mask
    return found | {"not_utf8": paths.is_null().to_numpy(zero_copy_only=False) & ~taken}


def find_masks(paths: pa.Array) -> Flags:
    """Find images that are called as the masks of others, by their folder or the end of their name.

    Examples
    --------
    >>> find_masks(pa.array(["images/ok/1.jpg", "masks/ok/1.png", "ok/2.jpg"])).tolist()
    [False, True, False]
    """
    texts = paths.to_pandas()
    may_be = texts.str.contains(_MASK_WORD).to_numpy(bool)
    is_mask = np.zeros(len(texts), bool)
    if not may_be.any():
        return is_mask
    keys = [_find_picture(path) for path in texts.tolist()]
    is_called = np.array([called for _, called in keys], bool)
    pictures = {key for key, called in keys if not called}
    belongs = np.array([key in pictures for key, _ in keys], bool) & is_called
    return is_called if belongs.sum() >= _LEAST_MASKS * max(is_called.sum(), 1) else belongs


def _find_picture(path: str) -> tuple[str, bool]:
    """Return what an image and its mask have in common, and whether this is called as a mask."""
    *folders, name = path.casefold().split("/")
    stem = name.rpartition(".")[0] or name
    own = [folder for folder in folders if folder not in MASKS | LAYOUT]
    bare = _MASK_ENDING.sub("", stem)
    return "/".join([*own, bare]), bare != stem or not MASKS.isdisjoint(folders)


def note_no_pictures(names: pa.Array, found: Mapping[str, Flags]) -> list[Note]:
    """Note what `find_no_pictures` found in a listing, a note for each kind.

    Examples
    --------
    >>> print(*note_no_pictures(pa.array([b"a.mp3"]), {"other_files": np.array([True])}))
    1 file is no image, as its ending says, and left out (the first: 'a.mp3')
    """
    notes = []
    for kind, mask in found.items():
        named = sorted(map(os.fsdecode, names.filter(pa.array(mask)).to_pylist()))
        notes += note_found(kind, named, *_NO_PICTURES[kind])
    return notes
