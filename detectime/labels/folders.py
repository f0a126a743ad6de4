"""One folder per class as labels, without a table: ``ok/anna/0001.jpg``."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.labels.class_names import ClassNames
from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.grouping import group_files
from detectime.labels.layout import (
    LAYOUT,
    MASKS,
    decode_names,
    drop_hagrid_prefix,
    find_masks,
    find_no_pictures,
    is_gesture,
    is_numbered,
    is_recording,
    is_split,
    names_split,
    note_no_pictures,
)
from detectime.labels.tables import TableError, format_names
from detectime.labels.webdataset import is_webdataset
from detectime.notes import Note, note_found, shorten_text
from detectime.sources.file_kinds import IMAGE_SUFFIXES, is_archive_name, recognise_path
from detectime.sources.folder import FolderSource
from detectime.sources.listing import Listing
from detectime.sources.names import fold_name
from detectime.sources.videos import is_video
from detectime.storage import urls

_IsClass = Callable[[str], bool]
_Inner = list[tuple[str, Sequence[str]]]

SPLIT_FOLDER = "split_folder"
"""Column with the name of the folder above that of the class, such as ``train``; empty where there is none."""

_MAY_BE_WEBDATASET = (
    "The files beside the images may state their classes, as in a WebDataset; to read them: labels_type: webdataset."
)
_CLASS_FILE = r"(?i)\.(?:cls|json)$"


def read_folders(images: str, listing: Listing, labels: Mapping[str, int], group_by: str | None = None) -> pd.DataFrame:
    """Read the classes of images from the folders in which they lie.

    The folder of the class is that of the first level on which folders are called as classes: ``ok/1.jpg``,
    ``train/ok/1.jpg``, ``anna/ok/1.jpg``, ``set/train_val_ok/1.jpg``. Folders called ``train``, ``val``, ``test`` and
    the like above it are no classes, unless the vocabulary says so: their names are in the column `SPLIT_FOLDER`.

    Files are told from images by their ending alone; none is opened. What is no image, hidden, the mask of another
    image (``masks/ok/1.png`` beside ``images/ok/1.jpg``), or in no folder of a class is left out and noted.

    Parameters
    ----------
    images
        The place of the images, for messages.
    listing
        Its files.
    labels
        The vocabulary: the number of each class.
    group_by
        What the frames of one video or person have in common: see `grouping.group_files`.

    Returns
    -------
    DataFrame
        One row per image, ordered by path: `frame_path`, `video_name`, `frame_id` (int64) and `class_name`;
        `SPLIT_FOLDER`, if there are such folders; `on_disk`, `stamp` and `label`, as in `frames_csv.read_frames_csv`.
        ``attrs`` are described in `columns.set_attrs`: `labels_sha256` is what `hash_names` returns.

    Raises
    ------
    TableError
        If a folder with images is of no class, or there are no folders of classes; the message names them.

    Examples
    --------
    >>> names = [b"train/ok/anna/1.jpg", b"train/stop/ben/1.jpg", b"train/ok/.DS_Store"]
    >>> table = read_folders("images", Listing(pa.array(names), pa.nulls(3, pa.string())), {"ok": 4, "stop": 1})
    >>> table[["frame_path", "video_name", "class_name", "split_folder", "label"]].to_numpy().tolist()
    [['train/ok/anna/1.jpg', 'anna', 'ok', 'train', 4], ['train/stop/ben/1.jpg', 'ben', 'stop', 'train', 1]]
    >>> for note in table.attrs["notes"]:
    ...     print(note)
    2 groups by the folder below that of the class; for others set data.group_by (the first: 'anna')
    2 files lie in folders that name the part of a split, and no class; see the column split_folder (the first: 'train')
    1 file is hidden or of the system, and left out (the first: 'train/ok/.DS_Store')
    """
    found = _find_images(images, listing)
    names = ClassNames(labels)
    places = _find_places(found.folders, names)
    _refuse_unknown(images, found, places, labels)
    is_labelled = np.array([place.class_name is not None for place in places], bool)[found.folder]
    if not is_labelled.any():
        raise TableError(_explain_no_classes(images, found, names, labels))
    rows = np.flatnonzero(is_labelled)
    rows = rows[pc.array_sort_indices(found.paths.take(pa.array(rows))).to_numpy()]
    paths = found.paths.take(pa.array(rows))
    folder = pa.array(found.folder[rows])
    class_names = pa.array([place.class_name for place in places], pa.large_string()).take(folder)
    groups = group_files(paths, class_names, group_by)
    table: pd.DataFrame = pa.table(
        {
            "frame_path": paths,
            "video_name": groups.video_name,
            "frame_id": pa.array(groups.frame_id),
            "class_name": class_names,
        }
    ).to_pandas()
    splits = [place.split for place in places]
    if any(splits):
        table[SPLIT_FOLDER] = pa.array(splits, pa.large_string()).take(folder).to_pandas()
    add_listing(table, listing, pa.array(found.positions[rows], pa.int32()))
    outside = found.paths.filter(pa.array(~is_labelled))
    inside = np.array([place.has_other for place in places], bool)[found.folder]
    notes = [*groups.notes, *_note_splits(table), *_note_outside(outside), *found.notes, *_note_absent(table, labels)]
    notes += _note_inside(found.paths.filter(pa.array(inside)))
    notes += [*_note_unlisted_videos(images, listing), *_note_beside_archives(images, listing)]
    everything = pa.array(np.arange(len(listing.names), dtype=np.int32))  # notes tell of each file that is left out
    set_attrs(table, listing, everything, hash_names(listing), notes=notes)
    return number_classes(table, labels)


def list_classes(listing: Listing) -> list[str]:
    """Return the names of the folders of classes, sorted, where no vocabulary says which these are.

    They are the first folders below those that hold everything and those called ``train``, ``val``, ``test`` and the
    like; or, where folders below these have the same names in several, those of the level that is called as gestures
    or letters, or else not as numbers of persons and recordings: ``00/01_palm/1.jpg``. What lies beside the one folder
    ``data``, ``images`` or the like that holds most of a set (``data/ok/1.jpg``, ``figures/x.png``) is no class.

    Raises
    ------
    TableError
        If there are no folders with images, or those of two levels could be the classes.

    Examples
    --------
    >>> names = [b"set/train/ok/anna/1.jpg", b"set/test/stop/ben/1.jpg", b"set/readme.txt"]
    >>> list_classes(Listing(pa.array(names), pa.nulls(3, pa.string())))
    ['ok', 'stop']
    """
    found = _find_images("images", listing)
    paths = [_split_path(folder) for folder in found.folders]
    inner = [parts for _, parts in _drop_strays(_drop_outer_folders(paths, lambda _: False)) if parts]
    level = _choose_level(inner)
    classes = sorted({drop_hagrid_prefix(fold_name(parts[level])) for parts in inner if len(parts) > level})
    if not classes:
        raise TableError(
            "`labels: auto` takes the names of folders as classes, but there are no folders with images in `images`"
        )
    return classes


def hash_names(listing: Listing) -> str:
    """Return the SHA-256, in hexadecimal, of the sorted paths of a listing: they are the labels.

    Examples
    --------
    >>> one, other = (Listing(pa.array(names), pa.nulls(2, pa.string())) for names in ([b"a", b"b"], [b"b", b"a"]))
    >>> hash_names(one) == hash_names(other)
    True
    """
    digest = hashlib.sha256()
    ordered = listing.names.take(pc.array_sort_indices(listing.names))
    for name in ordered.to_pylist():
        digest.update(name + b"\0")  # which no path contains
    return digest.hexdigest()


# -- files


class _Found(NamedTuple):
    """The images of a listing, as far as their endings tell."""

    paths: pa.Array
    """large_string."""
    positions: NDArray[np.int32]
    """Of each in the listing."""
    folder: NDArray[np.int64]
    """Of each, its position in `folders`."""
    folders: list[str]
    notes: list[Note]


def _find_images(images: str, listing: Listing) -> _Found:
    names = listing.names
    if not len(names):
        raise TableError(f"{images}: there are no files; set `images` to the folder that holds one folder per class")
    paths = decode_names(names)
    others = find_no_pictures(names, paths)
    notes = note_no_pictures(names, others)
    positions = np.flatnonzero(~np.logical_or.reduce(list(others.values())))
    if not len(positions):
        raise TableError(f"{images}: there are no images: {'; '.join(map(str, notes))}")
    is_mask = find_masks(paths.take(pa.array(positions)))
    masks = paths.take(pa.array(positions[is_mask])).to_pylist()
    positions = positions[~is_mask]
    paths = paths.take(pa.array(positions))
    folders = pc.replace_substring_regex(paths, r"(?s)/?[^/]*$", "").dictionary_encode()
    one, many = (
        "image is the mask of another, by its name, and left out",
        "images are the masks of others, by their names",
    )
    notes += note_found("masks", sorted(masks), one, f"{many}, and left out")
    if pc.any(pc.match_substring_regex(names, _CLASS_FILE)).as_py() and is_webdataset(listing):
        notes.append(Note("webdataset", 1, _MAY_BE_WEBDATASET))
    folder = folders.indices.to_numpy().astype(np.int64)
    return _Found(paths, positions.astype(np.int32), folder, folders.dictionary.to_pylist(), notes)


# -- folders


class _Place(NamedTuple):
    """What the folder of images says."""

    class_name: str | None
    """Of the vocabulary; None: it is no folder of a class."""
    split: str
    unknown: str | None = None
    """The path to the folder that is where those of classes are, but none itself."""
    has_other: bool = False
    """Whether a folder inside that of the class is called as another class."""


def _find_places(folders: Sequence[str], names: ClassNames) -> list[_Place]:
    """Say what each folder is: the level of the classes is that on which most folders are called as classes."""

    def find_class(folder: str) -> str | None:
        return names.find(folder) or names.find(drop_hagrid_prefix(fold_name(folder)))

    paths = [_split_path(folder) for folder in folders]
    inner = _drop_outer_folders(paths, lambda name: find_class(name) is not None)
    levels = Counter(depth for _, parts in inner for depth, part in enumerate(parts) if find_class(part) is not None)
    level = min(levels, key=lambda depth: (-levels[depth], depth)) if levels else 0
    places = []
    for parts, (split, below) in zip(paths, inner, strict=True):
        if len(below) <= level:
            places.append(_Place(None, split))
            continue
        class_name = find_class(below[level])
        upto = parts[: len(parts) - len(below) + level + 1]
        split = split or next(filter(is_split, below[:level]), "") or _get_hagrid_split(below[level], class_name)
        unknown = "/".join(upto) if class_name is None else None
        inside = {find_class(part) for part in below[level + 1 :]} - {None, class_name}
        places.append(_Place(class_name, split, unknown, class_name is not None and bool(inside)))
    return places


def _drop_strays(folders: _Inner) -> _Inner:
    """Leave out what lies beside the one folder of a layout that holds most folders, or beside parts of a split."""
    splits = Counter(split for split, _ in folders if split)
    if len(splits) > 1:
        inside = {parts[0] for split, parts in folders if split and parts}
        return [(split, parts) for split, parts in folders if split or (parts and parts[0] in inside)]
    tops = Counter(parts[0] for _, parts in folders if len(parts) > 1)
    top, count = next(iter(tops.most_common(1)), ("", 0))
    called = {parts[0] for _, parts in folders if parts and fold_name(parts[0]).casefold() in LAYOUT}
    beside = sorted({parts[0] for _, parts in folders if parts and parts[0] != top})
    if called != {top} or splits or not beside:
        return folders
    if count < 2 * len(beside):
        contained = sorted({parts[1] for _, parts in folders if len(parts) > 1 and parts[0] == top})
        raise TableError(_ask_level([[top, *beside], contained], f"both lie in and beside {shorten_text(top)}"))
    below = [parts[1:] for _, parts in folders if len(parts) > 1 and parts[0] == top]
    return _drop_strays(_drop_outer_folders(below, lambda _: False))


def _choose_level(paths: Sequence[Sequence[str]]) -> int:
    """Choose the level of the classes where no vocabulary says it: see `list_classes`."""
    levels = {0: sorted({parts[0] for parts in paths})} if paths else {0: []}
    for level in range(1, max(map(len, paths), default=0)):
        pairs = {(parts[level], parts[0]) for parts in paths if len(parts) > level}
        named = {pair for pair in pairs if fold_name(pair[0]).casefold() not in LAYOUT | MASKS}
        counts = Counter(name for name, _ in named if not names_split(name))
        is_usual = 2 * sum(len(parts) > level for parts in paths) >= len(paths)
        if counts and is_usual and 2 * sum(count > 1 for count in counts.values()) >= len(counts):
            levels[level] = sorted(counts)
    called = [level for level, names in levels.items() if 2 * sum(map(is_gesture, names)) > len(names)]
    others = [
        level
        for level, names in levels.items()
        if 2 * sum(is_numbered(name) or is_recording(name) for name in names) <= len(names)
    ]
    for chosen in (levels, called, others):
        if len(chosen) == 1:
            return next(iter(chosen))
    found = [names for level, names in levels.items() if level in (others or levels)]
    raise TableError(_ask_level(found, "of the same names lie below several others"))


def _ask_level(levels: Sequence[Sequence[str]], why: str) -> str:
    shown = " or ".join(format_names(names[:2]) for names in levels)
    return (
        f"`labels: auto` takes the names of folders as classes, but here the classes could be {shown} …, since folders "
        f"{why}; list the names of the classes in `labels` of config.yml, each with its number, such as "
        "{ok: 0, stop: 1}"
    )


def _get_hagrid_split(folder: str, class_name: str | None) -> str:
    own = drop_hagrid_prefix(folder)
    return folder.removesuffix(f"_{own}") if class_name is not None and own != folder and own == class_name else ""


def _split_path(folder: str) -> list[str]:
    return folder.split("/") if folder else []


def _drop_outer_folders(paths: Sequence[Sequence[str]], is_class: _IsClass) -> _Inner:
    """Return, for each folder, the part of a split that it is in, and its path below that and below what all share."""
    shared = _count_shared(paths, is_class)
    inner = [parts[shared:] for parts in paths]
    splits = _find_splits(inner, is_class)
    return [_drop_split(parts) if parts and parts[0] in splits else ("", parts) for parts in inner]


def _drop_split(parts: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Separate the part of a split from the folders below, of which archives of Kaggle repeat its name."""
    depth = next((depth for depth in range(1, len(parts)) if parts[depth] != parts[0]), len(parts))
    return parts[0], parts[depth:]


def _find_splits(paths: Sequence[Sequence[str]], is_class: _IsClass) -> set[str]:
    """Find the outermost folders that are parts of a split."""
    tops = {parts[0] for parts in paths if parts}
    if all(names_split(top) and not is_class(top) for top in tops):
        return tops
    splits = {top for top in tops if is_split(top) and not is_class(top)}
    # A folder `test` beside folders of classes is one of them, unless it holds folders of the same names.
    others = tops - splits
    inside = {(parts[0], parts[1]) for parts in paths if len(parts) > 1 and parts[0] in splits}
    counts = Counter(folder for _, folder in inside)
    return {top for top, folder in inside if folder in others or is_class(folder) or counts[folder] > 1}


def _count_shared(paths: Sequence[Sequence[str]], is_class: _IsClass) -> int:
    """Return how many outer folders hold all images: they are the data set's own, not of a class or a split."""
    inside = [parts for parts in paths if parts]
    count = 0
    while (
        inside
        and all(len(parts) > count + 1 for parts in inside)
        and len({parts[count] for parts in inside}) == 1
        and not is_class(inside[0][count])
        and not names_split(inside[0][count])
    ):
        count += 1
    return count


def _refuse_unknown(images: str, found: _Found, places: Sequence[_Place], labels: Mapping[str, int]) -> None:
    """Refuse folders with images that are where those of classes are, but called otherwise."""
    counts = np.bincount(found.folder, minlength=len(places)).tolist()
    unknown: Counter[str] = Counter()
    for place, count in zip(places, counts, strict=True):
        if place.unknown is not None:
            unknown[place.unknown] += count
    if not unknown:
        return
    listed = {path: f"{count:,} {'file' if count == 1 else 'files'}" for path, count in unknown.items()}
    shown = ClassNames(labels).list_unknown(listed)
    what, them, own = "folders are of no class", "them", "their names"
    if len(unknown) == 1:
        what, them, own = "folder is of no class", "it", "its name"
    raise TableError(
        f"{images}: {len(unknown)} {what}: {shown}; accepted: {', '.join(labels)}. Rename or move {them}, add {own} "
        "to `labels` in config.yml (`classes` then says which a run takes), or set `labels: auto`, which makes every "
        "folder of one level a class"
    )


def _explain_no_classes(images: str, found: _Found, names: ClassNames, labels: Iterable[str]) -> str:
    remedy = "put them into one folder per class, or give a table as `labels`"
    own = os.path.basename(os.path.normpath(images))
    archives = [name for name in _list_archives(images) if names.find(drop_hagrid_prefix(name.partition(".")[0]))]
    if archives:
        remedy = f"unpack each archive, such as {shorten_text(archives[0])}, into a folder that is called as its class"
    elif renamed := [name for name in _list_local_files(images) if _may_be_archive(images, name)]:
        remedy = (
            f"{shorten_text(renamed[0])} is an archive, or the beginning of one: finish it, and call it .zip or .tar"
        )
    elif names.find(drop_hagrid_prefix(own.partition(".")[0])):
        remedy = f"{shorten_text(own)} is called as a class itself: set `images` to the folder above"
    return (
        f"{images}: no image lies in a folder of a class, as in {next(iter(labels), 'class')}/1.jpg: there are "
        f"{len(found.paths):,} images such as {format_names(sorted(found.paths.to_pylist())[:2])}; {remedy}"
    )


def _list_archives(images: str) -> list[str]:
    """Return the names of the archives in a local folder, or that of an archive itself."""
    place = urls.strip_file_scheme(images).rstrip("/")
    names = os.listdir(place) if os.path.isdir(place) else [place.rpartition("/")[2]]
    return sorted(filter(is_archive_name, names))


def _list_local_files(images: str) -> list[str]:
    """Return the names of the files in a local folder, sorted, but for hidden ones and archives."""
    place = urls.strip_file_scheme(images)
    if not os.path.isdir(place):
        return []
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return sorted(name for name in names if not is_archive_name(name))


def _may_be_archive(images: str, name: str) -> bool:
    """Whether a file is an archive that is not called so, or one whose download did not end."""
    is_part = re.search(r"(?i)\.(?:zip|tar)\b", name) is not None
    return is_part or recognise_path(os.path.join(urls.strip_file_scheme(images), name)).name in ("zip", "tar")


# -- notes


def _note_splits(table: pd.DataFrame) -> list[Note]:
    if SPLIT_FOLDER not in table:
        return []
    splits = table[SPLIT_FOLDER]
    count = int((splits != "").sum())
    what = "file lies in a folder that names" if count == 1 else "files lie in folders that name"
    text = f"{what} the part of a split, and no class; see the column {SPLIT_FOLDER}"
    return [Note("split_folder", count, text, min(name for name in splits.unique() if name))]


def _note_outside(outside: pa.Array) -> list[Note]:
    one, many = "file is in no folder of a class, and left out", "files are in no folder of a class, and left out"
    return note_found("no_class", sorted(outside.to_pylist()), one, many)


def _note_inside(inside: pa.Array) -> list[Note]:
    """Note files whose path names two classes: the outer folder counts, but the inner one may have been moved there."""
    why = "that is called as another class, inside that of the class, which counts; move it if it is a class of its own"
    one, many = f"file lies in a folder {why}", f"files lie in a folder {why}"
    return note_found("two_classes", sorted(inside.to_pylist()), one, many)


def _note_unlisted_videos(images: str, listing: Listing) -> list[Note]:
    """Note the files of a source of videos that have no frame: they are no videos, or broken."""
    root = urls.strip_file_scheme(images)
    first = os.path.dirname(os.fsdecode(listing.names[0].as_py()))
    if not is_video(first) or not os.path.isfile(os.path.join(root, first)):
        return []
    read = set(pc.unique(pc.replace_substring_regex(listing.names, r"(?s)/[^/]*$", "")).to_pylist())
    names = pa.array([os.fsencode(file) for file, _ in FolderSource(root).list_frames()], pa.binary())
    is_hidden = find_no_pictures(names, decode_names(names))["hidden"]
    left = sorted(os.fsdecode(name) for name in names.filter(pa.array(~is_hidden)).to_pylist() if name not in read)
    broken, others = list(filter(is_video, left)), [name for name in left if not is_video(name)]
    one, many = "file is a video that cannot be read", "files are videos that cannot be read"
    return [
        *note_found("broken_videos", broken, f"{one}, and left out", f"{many}, and left out"),
        *note_found("no_videos", others, "file is no video, and left out", "files are no videos, and left out"),
    ]


def _note_beside_archives(images: str, listing: Listing) -> list[Note]:
    """Note the files beside archives that are read, those first that may be archives themselves."""
    files = [name for name in _list_local_files(images) if not name.lower().endswith(IMAGE_SUFFIXES)]
    if not files or not _list_archives(images):
        return []
    is_listed = pc.is_in(pa.array(map(os.fsencode, files), pa.binary()), value_set=listing.names).to_pylist()
    beside = [name for name, listed in zip(files, is_listed, strict=True) if not listed]
    beside.sort(key=lambda name: not _may_be_archive(images, name))
    why = "beside the archives is not read; an archive is whole, and called .zip or .tar"
    return note_found("beside_archives", beside, f"file {why}", f"files {why.replace(' is not', ' are not', 1)}")


def _note_absent(table: pd.DataFrame, labels: Mapping[str, int]) -> list[Note]:
    present = set(table["class_name"].unique())
    absent = [name for name in labels if name not in present]
    return note_found(
        "absent_class", absent, "class has no image in its folder", "classes have no image in their folder"
    )
