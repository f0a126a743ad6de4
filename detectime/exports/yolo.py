"""YOLO as Ultralytics reads it: ``data.yaml``, ``images/<split>`` and a text file in ``labels/<split>`` per picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from detectime.boxes import Integers
from detectime.exports.contract import ExportData, Format, join_path
from detectime.exports.many_files import put_many
from detectime.schema import CORNERS
from detectime.storage.store import Store

FILE_NAME = "data.yaml"

_PICTURES, _LABELS = "images", "labels"
_GRID = 10**7  # steps along a side of a picture: one is less than 0.01 pixel even in the largest JPEG
_NO_WRAPPING = 10**9  # characters in a line
_PARTS = ("train", "val", "test")  # what Ultralytics knows
_HEAD = "Made by detectime. To train: yolo detect train data=PATH/data.yaml model=yolo11n.pt"


def write_yolo(data: ExportData, store: Store) -> None:
    """Write a label file for each picture, also for those without a box, and then ``data.yaml``.

    Parameters
    ----------
    data
        What is exported.
    store
        The folder of the export.

    Raises
    ------
    StoreError
        If a file cannot be written.
    """
    # What Ultralytics keeps of earlier labels: some releases compare only sizes, which other boxes do not change.
    store.delete(f"{join_path(_LABELS, split)}.cache" for split in data.splits)
    files = zip(_name_label_files(data), encode_labels(data), strict=True)
    put_many(store, ((name, text.encode()) for name, text in files))
    store.put(FILE_NAME, encode_data_yaml(data).encode())


def encode_labels(data: ExportData) -> Iterator[str]:
    r"""Yield the text of each picture's label file.

    A line is the class, numbered from 0 as in ``data.yaml``, the centre of the box, its width and its height, as
    fractions of the picture's size. Also after rounding, all values and corners are between 0 and 1.

    Parameters
    ----------
    data
        What is exported.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"width": [640, 640], "height": [480, 480]})
    >>> objects = pd.DataFrame([{"image": 0, "index": 2, "x1": 0.0, "y1": 120.0, "x2": 64.0, "y2": 480.0}])
    >>> list(encode_labels(ExportData(images, objects, ("a", "b", "c"), {})))
    ['2 0.05000000 0.62500000 0.10000000 0.75000000\n', '']
    """
    objects = data.objects
    image = objects["image"].to_numpy(np.int64)
    boxes = _convert_boxes(data, image)
    lines = map("{} {:.8f} {:.8f} {:.8f} {:.8f}\n".format, objects["index"].tolist(), *boxes.T.tolist())
    for count in np.bincount(image, minlength=len(data.images)).tolist():
        yield "".join(itertools.islice(lines, count))


def encode_data_yaml(data: ExportData) -> str:
    """Return the text of ``data.yaml``: the folder of each part, and the names of the classes.

    Ultralytics requires `train` and `val`. Without pictures to validate with, `val` is `train` again, and a comment
    says so. There is no `path`, so that folders are relative to that of the file: the export can be moved.

    Parameters
    ----------
    data
        What is exported.

    Examples
    --------
    >>> import pandas as pd
    >>> images = pd.DataFrame({"split": ["train", "val"]})
    >>> data = ExportData(images, pd.DataFrame(), ("ok",), {"ok": 4}, ("train", "val"), "frames")
    >>> print(encode_data_yaml(data), end="")
    # Made by detectime. To train: yolo detect train data=PATH/data.yaml model=yolo11n.pt
    train: images/train
    val: images/val
    names:
      0: "ok"
    """
    folders, comments = _choose_folders(data)
    if data.pictures == "none":
        comments.append(
            "There are no pictures: put each beside its label file, in images instead of labels, under the same name; "
            "the columns name and frame_path of samples.csv say which is which."
        )
    lines = [f"# {comment}" for comment in (_HEAD, *comments)]
    # ASCII, so that readers that open files in the encoding of their system read every name.
    lines += [
        yaml.safe_dump(folders, sort_keys=False, width=_NO_WRAPPING).strip(),
        "names:" if data.classes else "names: {}",
    ]
    lines += [f"  {number}: {_quote(name)}" for number, name in enumerate(data.classes)]
    return "".join(f"{line}\n" for line in lines)


def _convert_boxes(data: ExportData, image: Integers) -> np.ndarray[Any, Any]:
    """Return centres and sizes as fractions of the picture's size, float64, shape (objects, 4).

    Corners are rounded, not centres: rounding a centre and a size apart may move a corner out of the picture.
    """
    sizes = data.images[["width", "height"]].to_numpy(np.float64)[image]
    corners = data.objects[list(CORNERS)].to_numpy(np.float64) / np.tile(sizes, 2)
    steps = np.clip(np.rint(corners * _GRID), 0, _GRID)
    return np.hstack([(steps[:, :2] + steps[:, 2:]) / 2, steps[:, 2:] - steps[:, :2]]) / _GRID


def _name_label_files(data: ExportData) -> Iterator[str]:
    images = data.images
    folders = {split: join_path(_LABELS, split) for split in data.splits}
    for name, split in zip(images["name"].tolist(), images["split"].tolist(), strict=True):
        yield f"{folders[split]}/{name}.txt"


def _choose_folders(data: ExportData) -> tuple[dict[str, str | list[str]], list[str]]:
    """Choose the folders of `train`, `val` and `test` from the parts that have pictures; also say what is unusual."""
    found = [name for name in data.splits if (data.images["split"] == name).any()]
    folders: dict[str, str | list[str]] = {name: f"{_PICTURES}/{name}" for name in _PARTS if name in found}
    others = [join_path(_PICTURES, name) for name in found if name not in _PARTS]
    comments = []
    if "train" not in folders:
        folders["train"] = others[0] if len(others) == 1 else others or f"{_PICTURES}/train"
    elif others:
        comments.append(f"Neither train, val nor test: {ascii(others)[1:-1]}.")
    if "val" not in folders:
        folders["val"] = folders["train"]
        comments.append(
            "There is no part val, so that val is train again: the metrics say nothing about people who are not in it."
        )
    return {name: folders[name] for name in _PARTS if name in folders}, comments


def _quote(text: str) -> str:
    """Return text as a quoted YAML scalar in one line."""
    return yaml.safe_dump(text, default_style='"', width=_NO_WRAPPING).strip()


def _name_picture(row: Mapping[str, Any]) -> str:
    return join_path(_PICTURES, row["split"], row["name"])


FORMAT = Format(
    name="yolo",
    title="YOLO in the layout of Ultralytics: data.yaml, images/<split> and labels/<split>.",
    box="hand",
    images="frames",
    accepted_images=("frames", "none"),
    write=write_yolo,
    name_picture=_name_picture,
)
