"""Annotated boxes as labels: COCO, CVAT, Pascal VOC and YOLO say the class of each picture, and where its hand is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.boxes import Flags, Integers
from detectime.config import NO_GESTURE
from detectime.labels.annotations import FACES, PEOPLE, Annotations, format_boxes
from detectime.labels.class_names import ClassNames
from detectime.labels.columns import add_listing, number_classes, set_attrs
from detectime.labels.formats import LABELLED, hash_annotations, read_labelled, recognise
from detectime.labels.grouping import group_pictures
from detectime.labels.layout import decode_names, find_no_pictures
from detectime.labels.picture_names import (
    PictureMatches,
    match_pictures,
    note_loose_matches,
    split_path,
)
from detectime.labels.tables import TableError, format_names
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import CORNERS, TRUTH, TRUTH_SIZE
from detectime.sources.listing import Listing

__all__ = ["FORMATS", "hash_annotations", "list_classes", "read_annotated", "recognise"]

FORMATS = LABELLED
"""Values of `data.labels_type` that this module reads."""

_SHOWN = 10  # labels that a note or message lists
_NONE, _SEVERAL = -1, -2  # instead of a class
_TWO_CLASSES = (
    "annotated picture has boxes of several classes, and is left out: a frame has one",
    "annotated pictures have boxes of several classes, and are left out: a frame has one",
)
_TAGGED = (
    "annotated picture has a tag, which counts for its class and says nothing of where a hand is",
    "annotated pictures have tags, which count for their classes and say nothing of where a hand is",
)
_UNLABELLED = (
    "annotated picture has nothing but shapes that are not used or have no label, and is left out",
    "annotated pictures have nothing but shapes that are not used or have no label, and are left out",
)
_EMPTY = "annotated picture has no box, and is", "annotated pictures have no box, and are"
_WITHOUT_SIZE = (
    "annotated picture states no size, so that its boxes in pixels are not used, only its class",
    "annotated pictures state no size, so that their boxes in pixels are not used, only their classes",
)
_OUTSIDE = (
    "annotated picture has a box outside of it, so that its boxes are not used, only its class",
    "annotated pictures have a box outside of them, so that their boxes are not used, only their classes",
)
_CLIPPED = (
    "annotated picture has a box that extends past its edge, and is clipped",
    "annotated pictures have a box that extends past their edge, and is clipped",
)
_ROUNDING = 0.005  # by which a box may leave its picture without counting as clipped, where one pixel is not known
_EXPORTED = (
    "annotated picture was exported by detectime: unless somebody corrected its boxes, they are what a run chose",
    "annotated pictures were exported by detectime: unless somebody corrected their boxes, they are what a run chose",
)


def read_annotated(
    path: str, labels_type: str, listing: Listing, labels: Mapping[str, int], group_by: str | None = None
) -> pd.DataFrame:
    """Read annotations into a frame table: one row per annotated picture that shows a class.

    The class of a picture is that of its boxes, and of what is said of it as a whole, as by CVAT's tags. One with boxes
    of several classes, besides ``no_gesture``, is left out, and so is one whose boxes are of no class of the
    vocabulary, or of which no shape is read; all are noted. One without any annotation is ``no_gesture``, if the
    vocabulary has that.

    Pictures are found in the source by name: see `picture_names.match_pictures`. One that the source does not have
    keeps its row.

    Parameters
    ----------
    path
        The annotations: a file, local or at a URL, or a local folder.
    labels_type
        One of `FORMATS`.
    listing
        The files of the source.
    labels
        The vocabulary: the number of each class.
    group_by
        What the frames of one video or person have in common, where the annotations do not say: see
        `grouping.group_files`. They say so in the fields of COCO's pictures and the attributes of CVAT's boxes that are
        called as one of `annotations.GROUP_KEYS`, and in exports of detectime.

    Returns
    -------
    DataFrame
        One row per picture, in the order of the annotations: `frame_path`, `video_name`, `frame_id` (int64),
        `class_name`; `schema.TRUTH`, the boxes of the class, as JSON text ``[[x1, y1, x2, y2], …]`` in fractions of the
        picture, ``[]`` where one of them is not known; `schema.TRUTH_SIZE`, if a size is stated; `on_disk`, `stamp` and
        `label`, as in `frames_csv.read_frames_csv`. ``attrs`` are described in `columns.set_attrs`: `labels_sha256` is
        what `hash_annotations` returns.

    Raises
    ------
    TableError
        If the annotations cannot be read, none of their labels is a class, a label differs from a class in case, blanks
        or punctuation alone, no picture is in the source, or it is not clear which file a picture is.

    Examples
    --------
    >>> import json, tempfile
    >>> made = {"images": [{"id": 7, "file_name": "1.jpg", "width": 640, "height": 480, "user_id": "ann"}]}
    >>> made["categories"] = [{"id": 1, "name": "ok"}]
    >>> made["annotations"] = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [160, 120, 320, 240]}]
    >>> listing = Listing(pa.array([b"images/1.jpg"]), pa.array(["1"]))
    >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    ...     json.dump(made, file)
    ...     file.flush()
    ...     table = read_annotated(file.name, "coco", listing, {"ok": 4})
    >>> table.loc[0, ["frame_path", "video_name", "class_name", TRUTH]].tolist()
    ['images/1.jpg', 'ann', 'ok', '[[0.25, 0.25, 0.75, 0.75]]']
    """
    annotations, is_export = read_labelled(path, labels_type)
    annotations = _add_tags(annotations)
    shown = _find_classes(annotations, labels, path)
    files = _find_pictures(annotations, listing, path)
    is_used = (shown.code >= 0) & ~files.matches.is_copy
    rows = np.flatnonzero(is_used)
    names = list(labels)
    positions = np.append(files.position, -1)[files.matches.row[rows]]
    class_names = [names[code] for code in shown.code[rows].tolist()]
    paths = _choose_paths(annotations, files, rows)
    table = pd.DataFrame({"frame_path": pd.array(paths, "str"), "class_name": pd.array(class_names, "str")})
    is_repeated = _find_repeated(table, path)
    rows, positions, table = rows[~is_repeated], positions[~is_repeated], table[~is_repeated].reset_index(drop=True)
    images = annotations.images.iloc[rows]
    numbers = images["frame_id"].astype(object).where(images["frame_id"].notna(), None).tolist()
    says = "the annotations state"
    groups, frame_ids, of_groups = group_pictures(table, images["group"].tolist(), numbers, says, group_by)
    table.insert(1, "video_name", groups)
    table.insert(2, "frame_id", frame_ids)
    truth, sizes, of_boxes = _format_boxes(annotations, rows, shown)
    table[TRUTH] = truth
    if any(size is not None for size in sizes):
        table[TRUTH_SIZE] = pa.array(sizes, pa.large_string()).to_pandas()
    found = pa.array(positions, pa.int32(), mask=positions < 0)
    add_listing(table, listing, found)
    pictures = annotations.images["name"].to_numpy(object)
    notes = [
        *annotations.notes,
        *(note_found("exported", pictures[rows].tolist(), *_EXPORTED) if is_export else []),
        *note_loose_matches(files.matches, pictures.tolist()),
        *of_groups,
        *shown.notes,
        *of_boxes,
    ]
    repeated = [*pictures[files.matches.is_copy].tolist(), *np.array(paths, object)[is_repeated].tolist()]
    # Those of pictures that are left out too: the notes tell of them, and of files that are none nobody asks.
    named = files.position[files.matches.row[files.matches.row >= 0]]
    known = pa.array(np.union1d(named, files.others).astype(np.int32))
    set_attrs(table, listing, known, hash_annotations(path, labels_type), repeated, notes)
    return number_classes(table, labels)


def list_classes(path: str, labels_type: str) -> list[str]:
    """Return the labels of the boxes, sorted, but for those of faces, people and parts of them.

    Parameters
    ----------
    path, labels_type
        As those of `read_annotated`.

    Raises
    ------
    TableError
        If the annotations cannot be read, or no box has a label.

    Examples
    --------
    >>> list_classes("annotations/instances.json", "coco")  # doctest: +SKIP
    ['ok', 'stop']
    """
    annotations = _add_tags(read_labelled(path, labels_type)[0])
    found = {label for label in annotations.boxes["label"].unique() if label.strip()}
    classes = sorted(label for label in found if label.strip().casefold() not in FACES | PEOPLE)
    if not classes:
        raise TableError(
            f"{path}: `labels: auto` takes the labels of boxes as classes, but no box has one that is"
            f"{_list_reasons(annotations)}"
        )
    return classes


# -- classes


def _add_tags(annotations: Annotations) -> Annotations:
    """Return annotations with their tags among the boxes, without corners; not those that a box repeats."""
    if not annotations.tags:
        return annotations
    boxes, names = annotations.boxes, annotations.images["name"].to_numpy(object)
    tags = pd.DataFrame(annotations.tags, columns=["image", "label"]).astype({"label": "str"}).drop_duplicates()
    is_new = ~pd.MultiIndex.from_frame(tags).isin(pd.MultiIndex.from_frame(boxes[["image", "label"]]))
    boxes = pd.concat([boxes, tags[is_new].reindex(columns=boxes.columns)]).sort_values("image", kind="stable")
    tagged = note_found("tag", names[tags["image"].unique()].tolist(), *_TAGGED)
    notes = (*(note for note in annotations.notes if note.kind != "tag"), *tagged)
    return dataclasses.replace(annotations, boxes=boxes.reset_index(drop=True), notes=notes, tags=())


def _list_reasons(annotations: Annotations) -> str:
    """Return what was found, to end a message with."""
    return "".join(f"; {note}" for note in annotations.notes)


class _Shown(NamedTuple):
    """The class that each picture shows."""

    code: Integers
    """int64, shape (images,): the position of the class in the vocabulary, or `_NONE`, or `_SEVERAL`."""
    box_code: Integers
    """int64, shape (boxes,): of each box, likewise."""
    notes: list[Note]


def _find_classes(annotations: Annotations, labels: Mapping[str, int], path: str) -> _Shown:
    boxes, count = annotations.boxes, len(annotations.images)
    image = boxes["image"].to_numpy(np.int64)
    found, unique = pd.factorize(boxes["label"])
    codes = _match_labels(unique.tolist(), labels, path, _list_reasons(annotations))
    box_code = codes[found] if len(codes) else np.zeros(0, np.int64)
    names = list(labels)
    negative = names.index(NO_GESTURE) if NO_GESTURE in labels else _NONE
    is_gesture = (box_code >= 0) & (box_code != negative)
    first, last = np.full(count, len(names), np.int64), np.full(count, _NONE, np.int64)
    np.minimum.at(first, image[is_gesture], box_code[is_gesture])
    np.maximum.at(last, image[is_gesture], box_code[is_gesture])
    code = np.where(last == _NONE, _NONE, np.where(first == last, last, _SEVERAL))
    is_empty = np.bincount(image, minlength=count) == 0
    is_negative = is_empty | _mark(image[(box_code == negative) & (box_code >= 0)], count)
    code = np.where((code == _NONE) & is_negative, negative, code)
    pictures = annotations.images["name"].to_numpy(object)
    is_blank = (boxes["label"].str.strip() == "").to_numpy(bool)
    has_label = is_empty | _mark(image[~is_blank], count)
    notes = [
        *_note_classes(pictures, code, is_empty, negative),
        *note_found("unlabelled", pictures[~has_label & (code == _NONE)].tolist(), *_UNLABELLED),
        *_note_labels(boxes["label"][~is_blank], box_code[~is_blank], image[~is_blank], code),
    ]
    if not (code >= 0).any():
        reasons = "; ".join(map(str, notes)) or "there are no annotated pictures"
        raise TableError(
            f"{path}: no picture shows a class: {reasons}; accepted: {', '.join(labels)}; add the labels to `labels` "
            "in config.yml, or set `labels: auto`"
        )
    return _Shown(code, box_code, notes)


def _match_labels(found: Sequence[str], labels: Mapping[str, int], path: str, reasons: str) -> Integers:
    """Return the position of the class that each label names, `_NONE` for those that name none.

    `reasons` says what was found, for a message.

    Raises
    ------
    TableError
        If none is a class, or one is probably meant to be.
    """
    names, order = ClassNames(labels), list(labels)
    classes = [names.find(label) for label in found]
    unknown = [label for label, name in zip(found, classes, strict=True) if name is None and label.strip()]
    similar = [
        f"{shorten_text(label)} (did you mean {close!r}?)" for label in unknown if (close := names.find_similar(label))
    ]
    if similar:
        raise TableError(
            f"{path}: {'labels differ' if len(similar) > 1 else 'a label differs'} from classes in case, blanks or "
            f"punctuation alone: {', '.join(similar)}; write them as in `labels` in config.yml, or change them there"
        )
    if classes and not any(classes):
        if not unknown:
            raise TableError(
                f"{path}: no box that can be used has a label, so that no picture has a class{reasons}; export upright "
                "boxes with their labels"
            )
        meant = next(filter(None, map(names.ask, sorted(unknown))), "")
        raise TableError(
            f"{path}: none of its {len(unknown)} labels is a class: {format_names(sorted(unknown))}{meant}; accepted: "
            f"{', '.join(labels)}; add them to `labels` in config.yml, or set `labels: auto`"
        )
    return np.array([_NONE if name is None else order.index(name) for name in classes], np.int64)


def _mark(images: Integers, count: int) -> Flags:
    marked = np.zeros(count, bool)
    marked[images] = True
    return marked


def _note_classes(pictures: NDArray[np.object_], code: Integers, is_empty: Flags, negative: int) -> list[Note]:
    what = f"labelled {NO_GESTURE}" if negative >= 0 else f"left out, since {NO_GESTURE} is not in `labels`"
    return [
        *note_found("two_classes", pictures[code == _SEVERAL].tolist(), *_TWO_CLASSES),
        *note_found("without_box", pictures[is_empty].tolist(), *(f"{text} {what}" for text in _EMPTY)),
    ]


def _note_labels(labels: pd.Series, box_code: Integers, image: Integers, code: Integers) -> list[Note]:
    """Note labels that are no classes, and how many pictures they leave out."""
    is_unknown = box_code < 0
    counts = labels[is_unknown].value_counts()
    if not len(counts):
        return []
    shown = [f"{shorten_text(str(label))} ({n:,})" for label, n in counts.head(_SHOWN).items()]
    more = len(counts) - len(shown)
    listed = ", ".join([*shown, *([f"and {more} more"] if more else [])])
    total = int(counts.sum())
    lost = len(np.unique(image[is_unknown & (code[image] == _NONE)]))
    be, pictures = ("box is", "picture is") if total == 1 else ("boxes are", "pictures are")
    pictures = "picture is" if lost == 1 else "pictures are"
    left_out = f"; {lost:,} {pictures} left out, with no box of a class" if lost else ""
    return [Note("other_label", total, f"annotated {be} of no class in `labels`, and not used: {listed}{left_out}")]


# -- files


class _Files(NamedTuple):
    """The files of the source that may be pictures, and which annotated picture is which."""

    paths: list[str]
    position: Integers
    """Of each in the listing."""
    others: Integers
    """int64: positions in the listing of files that are no pictures."""
    matches: PictureMatches


def _find_pictures(annotations: Annotations, listing: Listing, path: str) -> _Files:
    names = listing.names
    decoded = decode_names(names)
    is_other = np.logical_or.reduce(list(find_no_pictures(names, decoded).values()))
    if annotations.has_endings:  # what is annotated may be one, whatever it is called
        stated = pa.array(annotations.images["name"], pa.large_string())
        is_other &= ~pc.is_in(decoded, value_set=stated, skip_nulls=True).to_numpy(zero_copy_only=False)
    position = np.flatnonzero(~is_other)
    paths = decoded.take(pa.array(position)).to_pylist()
    matches = match_pictures(annotations, paths)
    pictures = annotations.images["name"].to_numpy(object)
    unclear = pictures[matches.is_unclear].tolist()
    if unclear:
        what = "picture" if len(unclear) == 1 else "pictures"
        raise TableError(
            f"{path}: {len(unclear):,} annotated {what} could be several files of the source, or several pictures one "
            f"file: {format_names(unclear)}; name them by their paths below "
            "`images`, or set `images` to the folder with these pictures alone"
        )
    if paths and not (matches.row >= 0).any():
        raise TableError(
            f"{path}: none of the {len(pictures):,} annotated pictures is in `images`, by its path or the end of it: "
            f"they are such as {format_names(pictures[:2].tolist())}, the {len(paths):,} files such as "
            f"{format_names(sorted(paths)[:2])}; set `images` to the folder of these pictures"
        )
    return _Files(paths, position, np.flatnonzero(is_other), matches)


def _choose_paths(annotations: Annotations, files: _Files, rows: Integers) -> list[str]:
    """Return the path of each picture: that of its file, or else as the annotations name it."""
    images = annotations.images
    stated, names = images["frame_path"].to_numpy(object), images["name"].to_numpy(object)
    return [
        files.paths[match] if match >= 0 else "/".join(split_path(stated[row] or names[row])) or str(row)
        for row, match in zip(rows.tolist(), files.matches.row[rows].tolist(), strict=True)
    ]


def _find_repeated(table: pd.DataFrame, path: str) -> Flags:
    """Find rows whose path an earlier one has; refuse them if their classes differ."""
    is_repeated: Flags = table["frame_path"].duplicated().to_numpy()
    if is_repeated.any():
        classes = table.groupby("frame_path")["class_name"].nunique()
        differing = classes[classes > 1].index.tolist()
        if differing:
            be = "picture is" if len(differing) == 1 else "pictures are"
            raise TableError(
                f"{path}: {len(differing):,} {be} annotated several times, with different classes: "
                f"{format_names(differing)}; keep one annotation of each"
            )
    return is_repeated


# -- boxes


def _format_boxes(
    annotations: Annotations, rows: Integers, shown: _Shown
) -> tuple[list[str], list[str | None], list[Note]]:
    """Return the boxes of the class of each picture as text, and its size.

    Returns
    -------
    truth
        JSON text, in fractions; ``[]`` where a box is not known.
    sizes
        Such as ``640x480``; None where it is not stated.
    notes
        About pictures whose boxes are not used.
    """
    images, boxes = annotations.images, annotations.boxes
    image = boxes["image"].to_numpy(np.int64)
    size = images[["width", "height"]].to_numpy(np.float64)
    corners = boxes[list(CORNERS)].to_numpy(np.float64)
    if annotations.unit == "pixels":
        corners = corners / np.tile(size, 2)[image]
    is_stated = np.isfinite(corners).all(axis=1)
    leaves = np.abs(corners - np.clip(corners, 0.0, 1.0))
    corners = np.clip(corners, 0.0, 1.0)
    is_known = np.isfinite(corners).all(axis=1) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
    is_own = (shown.box_code >= 0) & (shown.box_code == shown.code[image])
    is_lost = _mark(image[is_own & ~is_known], len(images))
    is_used = is_own & is_known & ~is_lost[image]
    texts = format_boxes(image[is_used], corners[is_used], len(images))
    truth = [texts[row] for row in rows.tolist()]
    sizes = [None if np.isnan(size[row, 0]) else f"{size[row, 0]:.0f}x{size[row, 1]:.0f}" for row in rows.tolist()]
    names = images["name"].to_numpy(object)[rows]
    lacks = np.isnan(size[rows, 0]) & _mark(image[is_own], len(images))[rows] & (annotations.unit == "pixels")
    is_clipped = is_used & (leaves > np.nan_to_num(1 / np.tile(size, 2)[image], nan=_ROUNDING)).any(axis=1)
    is_outside = is_own & is_stated & ~is_known
    return (
        truth,
        sizes,
        [
            *note_found("without_size", names[lacks].tolist(), *_WITHOUT_SIZE),
            *note_found("outside", names[_mark(image[is_outside], len(images))[rows]].tolist(), *_OUTSIDE),
            *note_found("clipped", names[_mark(image[is_clipped], len(images))[rows]].tolist(), *_CLIPPED),
        ],
    )
