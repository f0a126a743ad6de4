"""The neutral table of exports, made by hand or at random, for the tests of all formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from detectime.exports.contract import NO_SPLIT, ExportData, Format

Box = tuple[float, float, float, float]


class Shown(NamedTuple):
    """A box in a picture."""

    class_name: str
    box: Box
    score: float = 0.75
    kind: str = "sample"


DEFAULT: tuple[tuple[Shown, ...], ...] = (
    (Shown("ok", (10.25, 20.5, 110.125, 220.0625)),),
    (Shown("peace", (0.0, 0.0, 640.0, 480.0)), Shown("ok", (1 / 3, 2 / 3, 100 / 3, 200 / 3), float("nan"))),
    (),
)
"""A picture with one object, one with two, and one with none."""

ODD_NAMES = (
    *("a,b", 'say "hi"', "line\nbreak", "cr\rlf\r\n", "<b>&amp;</b>", "]]>", "it's", "NA", "nan", "null", "~", "yes"),
    *("1e5", "007", " blank ", "\ttab", ".hidden", "..", "a/b", "..\\c", "- item", "key: value", "#no", "%s {0}", "*"),
    *("👌🏽", "שלום", "\u202eright", "e\u0301", "é", "İ", "ß", "Ok", "OK", "con", "x" * 300, "\ufeffbom", "\u2028"),
)
"""Names of classes and videos that a careless writer breaks."""


def make_data(
    pictures: Sequence[Sequence[Shown]] = DEFAULT,
    classes: Sequence[str] = ("ok", "peace"),
    *,
    splits: Sequence[str] = (NO_SPLIT,),
    kept: str = "none",
    size: tuple[int, int] = (640, 480),
    **columns: Sequence[Any],
) -> ExportData:
    """Make the neutral table.

    Parameters
    ----------
    pictures
        The boxes of each picture. A picture's class is that of its first box.
    classes
        Numbered from 0, in this order.
    splits
        Pictures go to the first, the second, … in turn.
    kept
        `ExportData.pictures`. With ``crops`` a picture shows the first of its boxes, otherwise the whole frame.
    size
        Width and height of all frames.
    columns
        Replace columns of `ExportData.images`, such as ``name=["a", "b", "c"]``.
    """
    count = len(pictures)
    positions = {name: number for number, name in enumerate(classes)}
    names = [shown[0].class_name if shown else classes[0] for shown in pictures]
    images = pd.DataFrame(
        {
            "name": pd.array([f"v-{number}" for number in range(count)], "str"),
            "file": pd.array([f"v/{number}.jpg" for number in range(count)], "str"),
            "frame_path": pd.array([f"v/{number}.jpg" for number in range(count)], "str"),
            "video_name": pd.array(["v"] * count, "str"),
            "frame_id": np.arange(count, dtype=np.int64),
            "class_name": pd.array(names, "str"),
            "label": np.array([positions[name] for name in names], np.int64),
            "split": pd.array([splits[number % len(splits)] for number in range(count)], "str"),
            "width": np.full(count, size[0], np.int64),
            "height": np.full(count, size[1], np.int64),
            **_list_crops(pictures, size, kept),
            "content": pd.array([f"{number}-5eed" for number in range(count)], "str"),
            "decision": pd.array(["keep" if number % 2 else "" for number in range(count)], "str"),
        }
    )
    for name, values in columns.items():
        images[name] = pd.array(values, images[name].dtype)
    return ExportData(
        images, _make_objects(pictures, positions), tuple(classes), positions, tuple(splits), kept, {"version": "0.0"}
    )


def _list_crops(pictures: Sequence[Sequence[Shown]], size: tuple[int, int], kept: str) -> dict[str, Any]:
    """List the crop of each picture, as columns."""
    frame = (0.0, 0.0, float(size[0]), float(size[1]))
    boxes = [shown[0].box if shown and kept == "crops" else frame for shown in pictures]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, :2], corners[:, 2:] = np.floor(corners[:, :2]), np.ceil(corners[:, 2:])
    return {f"crop_{name}": corners[:, axis].astype(np.int64) for axis, name in enumerate(("x1", "y1", "x2", "y2"))}


def _make_objects(pictures: Sequence[Sequence[Shown]], positions: dict[str, int]) -> pd.DataFrame:
    rows = [(number, shown) for number, objects in enumerate(pictures) for shown in objects]
    corners = np.array([shown.box for _, shown in rows], np.float64).reshape(-1, 4)
    return pd.DataFrame(
        {
            "image": np.array([number for number, _ in rows], np.int64),
            "class_name": pd.array([shown.class_name for _, shown in rows], "str"),
            "index": np.array([positions[shown.class_name] for _, shown in rows], np.int64),
            **{name: corners[:, axis] for axis, name in enumerate(("x1", "y1", "x2", "y2"))},
            "score": np.array([shown.score for _, shown in rows], np.float64),
            "kind": pd.array([shown.kind for _, shown in rows], "str"),
        }
    )


def place_pictures(data: ExportData, export_format: Format, suffix: str = ".jpg") -> ExportData:
    """Set `images.file` as the export does: where the pictures lie, or the `frame_path` without pictures."""
    if data.pictures == "none" or export_format.name_picture is None:
        return data
    files = [f"{export_format.name_picture(row)}{suffix}" for row in data.images.to_dict("records")]
    return dataclasses.replace(data, images=data.images.assign(file=pd.array(files, "str")))


def make_many(count: int, splits: Sequence[str] = ("train", "val", "test"), classes: int = 6) -> ExportData:
    """Make a large table quickly: one object per picture, random boxes in frames of 1280 by 720 pixels."""
    rng = np.random.default_rng(7)
    names = tuple(f"class {number}" for number in range(classes))
    data = make_data([()], names, splits=splits, kept="frames", size=(1280, 720))
    images = data.images.iloc[np.zeros(count, np.int64)].reset_index(drop=True)
    numbers, chosen = np.arange(count), rng.integers(0, classes, count)
    paths = [f"video {number // 90}/{number:07}.jpg" for number in numbers]
    images = images.assign(
        name=pd.array([f"video-{number // 90}-{number:07}" for number in numbers], "str"),
        file=pd.array(paths, "str"),
        frame_path=pd.array(paths, "str"),
        video_name=pd.array([f"video {number // 90}" for number in numbers], "str"),
        frame_id=numbers,
        label=chosen,
        class_name=pd.array(np.array(names, object)[chosen], "str"),
        split=pd.array([splits[number // 90 % len(splits)] for number in numbers], "str"),
    )
    corners = np.sort(rng.random((count, 2, 2)), axis=1) * (1280, 720)
    objects = pd.DataFrame(
        {
            "image": numbers,
            "class_name": images["class_name"],
            "index": chosen,
            **{name: corners[:, place // 2, place % 2] for place, name in enumerate(("x1", "y1", "x2", "y2"))},
            "score": rng.random(count),
            "kind": pd.array(["sample"] * count, "str"),
        }
    )
    return dataclasses.replace(data, images=images, objects=objects)


# Strategies of hypothesis.

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
"""Any text that a table of labels may hold."""

CLASS_NAMES = st.sampled_from(ODD_NAMES) | TEXTS
SPLITS = st.sampled_from([(NO_SPLIT,), ("train", "val", "test")])
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,120}", fullmatch=True)
"""`images.name`."""


@st.composite
def draw_boxes(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    """Draw a box of at least a hundredth of a pixel inside a frame, often at its edges."""
    sides = []
    for length in size:
        ends = st.sampled_from([0.0, float(length)]) | st.floats(0, length, allow_subnormal=False)
        start, end = sorted((draw(ends), draw(ends)))
        if end - start < 0.01:
            start, end = max(0.0, start - 0.01), min(float(length), end + 0.01)
        sides.append((start, end))
    (x1, x2), (y1, y2) = sides
    return x1, y1, x2, y2


@st.composite
def draw_data(
    draw: st.DrawFn,
    *,
    class_names: st.SearchStrategy[str] = CLASS_NAMES,
    kept: Sequence[str] = ("none", "frames"),
    one_object: bool = False,
    max_pictures: int = 6,
) -> ExportData:
    """Draw a neutral table: none to some pictures, with none to three boxes each, and classes without any.

    Parameters
    ----------
    draw
        Given by hypothesis.
    class_names
        Names of classes.
    kept
        Values of `ExportData.pictures`.
    one_object
        Each picture has exactly one box, as in crops.
    max_pictures
        Most pictures.
    """
    classes = draw(st.lists(class_names, min_size=1, max_size=5, unique=True))
    size = draw(SIZES)
    shown = st.builds(
        Shown,
        st.sampled_from(classes),
        draw_boxes(size),
        st.floats(0, 1) | st.just(float("nan")),
        st.sampled_from(["sample", "sample", "other_hand", "face"]),
    )
    fewest, most = (1, 1) if one_object else (0, 3)
    pictures = draw(st.lists(st.lists(shown, min_size=fewest, max_size=most), max_size=max_pictures))
    texts = st.sampled_from(ODD_NAMES) | TEXTS
    paths = draw(st.lists(texts, min_size=len(pictures), max_size=len(pictures), unique=True))
    return make_data(
        pictures,
        classes,
        splits=draw(SPLITS),
        kept=draw(st.sampled_from(list(kept))),
        size=size,
        name=draw(st.lists(NAMES, min_size=len(pictures), max_size=len(pictures), unique_by=str.casefold)),
        file=paths,
        frame_path=paths,
        video_name=draw(st.lists(texts, min_size=len(pictures), max_size=len(pictures))),
    )
