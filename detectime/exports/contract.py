"""What an export is: its settings, the neutral table that all formats are written from, and what a format provides.

A format is one module with one `Format`: a thin writer over `ExportData`. Boxes are in pixels of the frame as it is
exported, x to the right and y downwards; each format converts them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from detectime.config import make_section
from detectime.errors import DocumentedError
from detectime.notes import Note
from detectime.settings import CHECKED, Count
from detectime.storage.store import Store

Bits = Annotated[int, Field(ge=0, le=128)]

NO_SPLIT = ""
"""The name of the only part of a training set that is not split."""


class ExportError(DocumentedError, RuntimeError):
    """An export that cannot be written; the message says why and what to do."""


@checked_dataclass(frozen=True, config=CHECKED)
class ExportConfig:
    """What is exported, and how: parameters of notebook 02 and options of `detectime export`."""

    box: Literal["hand", "bbox"] | None = None
    """hand: the hand itself | bbox: the crop, larger for enlarged_classes; null: hand for boxes in frames, bbox for
    crops."""
    images: Literal["crops", "frames", "none"] | None = None
    """crops: a picture of each box | frames: whole frames, copied or cut out of videos and archives | none: tables
    alone; null: what suits the format."""
    only: Literal["all", "reviewed", "missed"] = "all"
    """all: every sample | reviewed: samples that a person decided on | missed: decoded frames without a sample, for
    people to draw the hand in; cvat alone."""
    split: bool | None = None
    """Use the split.csv of the run; null: if there is one."""
    allow_similar: bool = False
    """Near-duplicate crops in two parts of the split are a note instead of an error; equal frames never are."""
    thin: Bits | None = None
    """Leave out samples that look like an earlier one of the same group: up to so many of the 256 bits of their hashes
    differ; null: none."""
    every: Count = 1
    """Only every n-th sample of each group and class."""
    no_gesture: bool = False
    """Also write the class no_gesture: further hands that were found in an exported frame, and frames labelled so."""
    faces: bool = False
    """Also write the faces that were found, as class face. Only in formats that hold boxes in frames."""
    blur_faces: bool = False
    """Make the faces that were found unrecognisable in every picture."""
    overwrite: bool = False
    """Replace an earlier export in the same folder that was made of other samples or with other settings."""
    license: str | None = None
    """Licence of the frames for the dataset card, as the Hugging Face hub names it: cc-by-4.0, mit, other …"""
    sources: str | None = None
    """Where the frames are from, a sentence for the dataset card."""
    contact_sheet: bool = False
    """Put a picture of some crops on the dataset card: it shows people."""


def make_export_config(values: Mapping[str, Any]) -> ExportConfig:
    """Check the settings of an export.

    Parameters
    ----------
    values
        Keys of `ExportConfig` and their values.

    Raises
    ------
    ConfigError
        If a key is unknown, or a value is not accepted.

    Examples
    --------
    >>> make_export_config({"images": "frames"}).images
    'frames'
    >>> make_export_config({"images": "frame"})
    Traceback (most recent call last):
        ...
    detectime.errors.ConfigError: images = 'frame': did you mean 'frames'? accepted: crops, frames, none
    """
    return make_section(ExportConfig, values, "setting of an export")


@dataclass(frozen=True)
class ExportData:
    """The neutral table: what is exported, whatever the format.

    Attributes
    ----------
    images
        One row per picture, in the order of the frame table:

        - `name` (str): unique also where case does not count, 1 to 120 characters of ``[A-Za-z0-9_-]``; without an
          ending. Pictures of further hands end in ``-2``, ``-3`` …
        - `file` (str): path of the picture in the export's folder, with ``/``; without pictures, the `frame_path`. Of
          formats that hold pictures in their own files, the name within those.
        - `frame_path`, `video_name` (str), `frame_id` (int64): as in the frame table. A frame may have several crops.
        - `class_name` (str), `label` (int64): of the frame, after decisions.
        - `split` (str): one of `splits`.
        - `width`, `height` (int64): of the frame in pixels, as it is exported.
        - `crop_x1`, `crop_y1`, `crop_x2`, `crop_y2` (int64): what of the frame the picture shows; the whole frame if
          frames are exported.
        - `content` (str): `images.describe_content` of the frame's file at detection; empty where unknown.
        - `decision` (str): of a person, such as ``keep`` or ``box+label``; empty if there is none.
    objects
        One row per box, ordered by picture; a picture may have none:

        - `image` (int64): row of its picture in `images`.
        - `class_name` (str): one of `classes`; `index` (int64): its position there, from 0.
        - `x1`, `y1`, `x2`, `y2` (float64): in pixels of the frame, inside it, also if crops are exported.
        - `score` (float64): of the detector; NaN for a box that a person drew.
        - `kind` (str): ``sample``, ``other_hand`` or ``face``.
    classes
        Names of the classes in the order of their numbers, also of classes without samples.
    numbers
        The number of each class in the vocabulary; `face` has the next free one.
    splits
        Names of the parts, such as ``("train", "val", "test")``, also of empty ones; ``("",)``: not split.
    pictures
        ``crops``, ``frames`` or ``none``.
    about
        Facts about the run as plain JSON values: `detectime`, the version; `output`; `finished`, when detection ended
        (ISO 8601); `split`, how it was made, a sentence.
    """

    images: pd.DataFrame
    objects: pd.DataFrame
    classes: tuple[str, ...]
    numbers: Mapping[str, int]
    splits: tuple[str, ...] = (NO_SPLIT,)
    pictures: str = "none"
    about: Mapping[str, Any] = field(default_factory=dict)

    def select_images(self, chosen: np.ndarray[Any, Any]) -> ExportData:
        """Return the chosen pictures with their boxes, numbered anew.

        Parameters
        ----------
        chosen
            bool, shape (pictures,).
        """
        rows = np.flatnonzero(chosen)
        position = np.full(len(self.images), -1)
        position[rows] = np.arange(len(rows))
        images = self.images.iloc[rows].reset_index(drop=True)
        objects = self.objects[chosen[self.objects["image"].to_numpy(np.int64)]].reset_index(drop=True)
        objects = objects.assign(image=position[objects["image"].to_numpy(np.int64)])
        return ExportData(images, objects, self.classes, self.numbers, self.splits, self.pictures, self.about)

    def iterate_splits(self) -> Iterator[tuple[str, ExportData]]:
        """Yield each part of the split with its pictures, also empty parts."""
        for name in self.splits:
            yield name, self.select_images((self.images["split"] == name).to_numpy())


class Picture(NamedTuple):
    """An encoded picture for a format that holds pictures in files of its own."""

    row: dict[str, Any]
    """Its row of `ExportData.images`."""
    objects: list[dict[str, Any]]
    """Its rows of `ExportData.objects`."""
    encoded: bytes
    """A JPEG or PNG file."""
    suffix: str
    """``.jpg`` or ``.png``."""


ShardWriter = Callable[[Store, str, Sequence[Picture], "ExportHead"], None]


@dataclass(frozen=True)
class ExportHead:
    """What a worker knows of an export beside its pictures: see `ExportData` for the attributes."""

    classes: tuple[str, ...]
    numbers: Mapping[str, int]
    pictures: str


@dataclass(frozen=True)
class Format:
    """A format: how it is called, what it holds, and the functions that write it.

    Attributes
    ----------
    name
        As users give it, and the name of its folder.
    title
        One sentence for ``--help`` and the documentation.
    box, images
        Defaults of `ExportConfig.box` and `ExportConfig.images`.
    accepted_images, accepted_boxes, accepted_only
        Values of `ExportConfig.images`, `box` and `only` that it can hold.
    write
        Writes everything but pictures: ``write(data, store)``. It is called when all pictures are written, and may be
        called again after a kill.
    name_picture
        Returns the path of a picture in the export's folder without its ending: ``name_picture(row)``, a row of
        `ExportData.images` as a dict. None: pictures are held in files that `write_shard` writes.
    write_shard
        Writes one file with many pictures: ``write_shard(store, file, pictures, head)``. The same pictures give the
        same bytes. It runs in worker processes.
    name_shard
        Returns the path of such a file: ``name_shard(split, index, count)``.
    find_fault
        Says why the format cannot hold a class of this name: ``find_fault(class_name)``; None if it can.
    find_data_fault
        Says why it cannot hold something else, such as the name of a part of the split; None if it can.
    """

    name: str
    title: str
    box: Literal["hand", "bbox"]
    images: Literal["crops", "frames", "none"]
    accepted_images: tuple[str, ...]
    write: Callable[[ExportData, Store], None]
    name_picture: Callable[[Mapping[str, Any]], str] | None = None
    write_shard: ShardWriter | None = None
    name_shard: Callable[[str, int, int], str] | None = None
    find_fault: Callable[[str], str | None] = lambda class_name: None
    find_data_fault: Callable[[ExportData], str | None] = lambda data: None
    accepted_boxes: tuple[str, ...] = ("hand", "bbox")
    accepted_only: tuple[str, ...] = ("all", "reviewed")


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes
    ----------
    folder
        Where it is.
    format
        Its format.
    counts
        Number of `pictures`, `objects`, `samples`, and of `failed` frames that could not be exported.
    notes
        Findings: frames left out, further hands, faces that were not found …
    """

    folder: str
    format: str
    counts: Mapping[str, int]
    notes: tuple[Note, ...] = ()


def split_folder(split: str, default: str) -> str:
    """Return the name of the folder of a part of a split; `default` if the set is not split.

    Examples
    --------
    >>> split_folder("val", "all"), split_folder("", "all")
    ('val', 'all')
    """
    return split or default


def join_path(*parts: str) -> str:
    """Join parts of a path in an export's folder, without those that are empty.

    Examples
    --------
    >>> join_path("images", "", "a.jpg")
    'images/a.jpg'
    """
    return Path(*[part for part in parts if part]).as_posix()
