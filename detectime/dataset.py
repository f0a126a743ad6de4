"""A training set as a PyTorch dataset: crops cut out of the frames of a run, or read from an export.

Needs the extra ``torch``. Workers of a ``DataLoader`` get arrays, not tables: a million samples take 200 MB, which
forked workers share.
"""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from detectime import paths
from detectime.boxes import Floats
from detectime.errors import DocumentedError
from detectime.images import MAX_PIXELS, FrameImage, UnreadableImageError
from detectime.notes import Note, note_found, shorten_text
from detectime.schema import CORNERS, MANIFEST_FILE, SAMPLES
from detectime.settings import suggest_name
from detectime.sources.contract import MissingFrameError, Source
from detectime.sources.reading import read_images
from detectime.sources.videos import VideoSource

if TYPE_CHECKING:  # pandas, the detectors' settings …: workers need none of them
    import pandas as pd

    from detectime.exports.contract import Export, Format
    from detectime.runs import FinishedRun
    from detectime.sources.video_index import VideoIndex
    from detectime.storage.store import Store


class MissingTorchError(DocumentedError, ModuleNotFoundError):
    """PyTorch is not installed."""


try:
    import torch
    from torch.utils.data import Dataset, Sampler, Subset
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingTorchError(
        f"detectime.dataset needs the extra `torch`; install it with: {paths.format_install('torch')}", name="torch"
    ) from None

Box = Literal["bbox", "hand", "context"]
Only = Literal["all", "reviewed"]
Target = Literal["index", "label"]

_EXPORT_FILE = "export.json"
_HANDS = ("sample", "other_hand")  # kinds of exported boxes that are samples here: the others are faces
_COLUMNS = {
    **dict.fromkeys(("frame_path", "video_name"), pa.string()),
    "frame_id": pa.int64(),
    "class_name": pa.string(),
    **dict.fromkeys(("label", "index"), pa.int64()),
    "split": pa.string(),
    **dict.fromkeys((*CORNERS, "width", "height"), pa.int32()),
    "score": pa.float64(),
    "decision": pa.string(),
}
"""The columns of `HandsDataset.samples`."""


class DatasetError(DocumentedError, RuntimeError):
    """A dataset that cannot be made; the message says why and what to do."""


class SampleError(DatasetError):
    """A sample whose crop cannot be read, or would show something else than was detected; the message names it."""


class HandsDataset(Dataset[tuple[Any, int]]):  # type: ignore[misc, unused-ignore]
    """Crops of hands with their classes: a map-style dataset.

    Of a run, each sample is cut out of its frame when it is asked for, from the file that detection read and as it read
    it. Of an export, it is read from the exported pictures, which is faster: a frame has many times the pixels of its
    crop, and in a video it takes decoding all frames since the last key frame.

    It can be pickled, and works with any start method of workers. No file stays open between two batches.

    Parameters
    ----------
    made
        What `runs.open_run` returned, an `Export`, or the folder or URL of either. An export must hold its pictures in
        files of their own: that of a format which packs them is loaded by a library of its own, which the error names.
    split
        Only this part of the split; None: all samples.
    transform
        Applied to each image, such as a transform of torchvision.
    target
        What the target is: ``index``, the position of the class in `classes`, as losses expect it; or ``label``, its
        number in the vocabulary, as in ``hands.json``.
    box
        What is cut out: ``bbox``, the crop of ``hands.json``, larger for `enlarged_classes`, so that its extent tells
        the class; ``hand``, the hand itself; or ``context``, the square around it with half side `boxes.HAND_CONTEXT`
        of its longer side, within the frame, which a classifier can be given where the class is not known. None:
        ``bbox``, or the boxes that the export has.
    only
        ``all`` samples, or those that a person has ``reviewed``.
    allow_similar
        With the `split` of a run, near-duplicates and frames of one video may lie in different parts; a note counts
        them. An export was checked when it was made.

    Attributes
    ----------
    classes
        Names of the classes, in the order of their numbers, also of classes without samples.
    class_to_idx
        The position of each class in `classes`.
    targets, labels
        int64, shape (samples,): the targets, and the numbers of the classes in the vocabulary.
    transform
        As given; may be replaced.
    notes
        Findings: classes without samples; frames that are stored lying on their side and used like that (`exif:
        ignore`); frames of a run of 0.2, whose files are only compared by their size in pixels; and, with a
        `split`, near-duplicates that are allowed or were not looked for.

    Raises
    ------
    DatasetError
        If this is neither a run nor an export with pictures, it holds no such sample, or there is no such part of a
        split.
    SampleError
        If videos are gone, or changed since detection. Other frames are checked when they are read.
    SplitError
        With a `split`: if the same frame, or near-duplicates, are in two parts of it, as an edited ``split.csv`` may
        have it; see `splits.check_leaks`.
    RunError
        If decisions were made, or frames detected, since the run was paired.
    RunError, SourceError, StoreError
        If files of the run cannot be read.

    Examples
    --------
    >>> HandsDataset("no/such/run")
    Traceback (most recent call last):
        ...
    detectime.dataset.DatasetError: no/such/run: there is no such folder; give the folder of a run or of an export
    """

    def __init__(
        self,
        made: FinishedRun | Export | str | os.PathLike[str],
        *,
        split: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        target: Target = "index",
        box: Box | None = None,
        only: Only = "all",
        allow_similar: bool = False,
    ) -> None:
        _check_choice("target", target, get_args(Target))
        _check_choice("box", box, (None, *get_args(Box)))
        _check_choice("only", only, get_args(Only))
        everything = _collect(made, box)
        found = everything.select(split, only)
        leaks = [] if split is None else everything.check_leaks(allow_similar)
        self.transform = transform
        self.classes = list(found.classes)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        self.labels = found.samples["label"].to_numpy()
        self.targets = self.labels if target == "label" else found.samples["index"].to_numpy()
        self._target_count = max(found.numbers) + 1 if target == "label" else len(self.classes)
        self._title = found.place if split is None else f"part {split!r} of {found.place}"
        self.notes = [*found.notes, *leaks, *_note_empty_classes(found)]
        self._samples = found.samples
        self._reader = found.reader
        self._reader.check_videos()

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"HandsDataset({len(self):,} samples of {len(self.classes)} classes from {self._title})"

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return a sample.

        Returns
        -------
        image, target
            A ``PIL.Image`` in RGB, upright, or what `transform` made of it; and the target.

        Raises
        ------
        IndexError
            If there are not so many samples.
        DatasetError
            If the index is not a whole number, such as a slice.
        SampleError
            If its frame is gone, cannot be decoded, or has changed since detection.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Return samples as `__getitem__` does; a ``DataLoader`` asks for a batch.

        Frames of a batch that are in one video or archive are read in their order, so that it is opened once.
        """
        found = np.array([_check_index(index) for index in indices], np.int64)
        positions = np.arange(len(self))[found]  # checks them, and counts from the end
        images: list[Any] = self._reader.read_crops(positions)
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        return list(zip(images, self.targets[positions].tolist(), strict=True))

    @property
    def root(self) -> str:
        """Where the frames, or the pictures of the export, are."""
        return str(self._reader.source.root)

    @property
    def groups(self) -> NDArray[np.object_]:
        """The group of each sample, its `video_name`: what a split must not divide. Shape (samples,), made anew."""
        return np.asarray(self._samples["video_name"].to_numpy(zero_copy_only=False), object)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per sample, made anew at each access.

        Columns: `frame_path`, `video_name`, `frame_id`, `class_name`, `label`, `index`, `split`; `x1`, `y1`, `x2`,
        `y2`, what of the frame the image shows, in pixels of the frame; its `width` and `height`; `score` of the hand,
        NaN if a person drew it; `decision` of a person, such as ``keep``, empty if there is none.
        """
        table: pd.DataFrame = self._samples.to_pandas()
        return table

    def class_weights(self, per_group: int | None = None) -> torch.Tensor:
        """Return weights that make up for unequal numbers of samples, for ``torch.nn.CrossEntropyLoss``.

        Parameters
        ----------
        per_group
            As for the `GroupSampler` of the training loop: classes are counted as it draws them. None: all samples.

        Returns
        -------
        Tensor
            float32, one per value of the target: as many as `classes`, or for labels one more than the largest number.
            Inversely proportional to the number of samples, with a mean of 1 over the classes that have some; 0 for
            those that have none.

        Raises
        ------
        DatasetError
            If `per_group` is not a positive number.
        """
        drawn = None if per_group is None else _share_draws(_number_groups(self.groups), per_group)
        counts = np.bincount(self.targets, drawn, self._target_count)
        weights = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
        return torch.from_numpy((weights / weights[counts > 0].mean()).astype(np.float32))


class GroupSampler(Sampler[int]):  # type: ignore[misc, unused-ignore]
    """Draws at most so many samples of each group in an epoch, in random order.

    Frames of a video resemble one another: without a limit, long videos dominate an epoch. Each epoch draws others.

    Parameters
    ----------
    dataset
        Has `groups`, or is a ``torch.utils.data.Subset`` of such a one.
    per_group
        Most samples of a group in an epoch.
    seed
        Of the order: the same seed and epoch give the same samples on every machine.

    Attributes
    ----------
    epoch
        The next epoch that is drawn. Each iteration raises it by one.

    Raises
    ------
    DatasetError
        If `per_group` is not a positive number, or the dataset has no groups.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> sampler = GroupSampler(SimpleNamespace(groups=["anna", "anna", "anna", "ben"]), per_group=2)
    >>> len(sampler), len(list(sampler)), sampler.epoch
    (3, 3, 1)
    """

    def __init__(self, dataset: Any, per_group: int, seed: int = 0) -> None:
        self._codes = _number_groups(_get_groups(dataset))
        _check_per_group(per_group)
        counts = np.bincount(self._codes)
        self._starts = np.cumsum(counts) - counts
        self._count = int(np.minimum(counts, per_group).sum())
        self._per_group, self._seed = per_group, seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self.epoch])
        self.epoch += 1
        order = random.permutation(len(self._codes))
        order = order[np.argsort(self._codes[order], kind="stable")]  # group by group, shuffled within
        place = np.arange(len(order)) - self._starts[self._codes[order]]
        return iter(random.permutation(order[place < self._per_group]).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is drawn next, to resume training as if it had not been interrupted."""
        self.epoch = epoch


def _get_groups(dataset: Any) -> NDArray[np.object_]:
    """Return the group of each sample of a dataset, or of a subset of one."""
    if isinstance(dataset, Subset):
        return _get_groups(dataset.dataset)[np.asarray(dataset.indices, np.int64)]
    if not hasattr(dataset, "groups"):
        raise DatasetError(
            f"dataset: a {type(dataset).__name__} has no `groups`; give a HandsDataset, or a Subset of one"
        )
    return np.asarray(dataset.groups, object)


def _number_groups(groups: NDArray[np.object_]) -> NDArray[np.int32]:
    """Return the number of each sample's group."""
    numbers: NDArray[np.int32] = pa.array(groups, pa.string()).dictionary_encode().indices.to_numpy()
    return numbers


def _share_draws(codes: NDArray[np.int32], per_group: int) -> Floats:
    """Return how often each sample is drawn per epoch, if so many samples of its group are."""
    _check_per_group(per_group)
    shares: Floats = np.minimum(1.0, per_group / np.bincount(codes))[codes]
    return shares


def _check_per_group(per_group: object) -> None:
    if isinstance(per_group, bool) or not isinstance(per_group, int | np.integer) or per_group < 1:
        raise DatasetError(f"per_group = {per_group!r}: accepted: a whole number from 1 on")


def _check_index(index: object) -> int:
    """Refuse what is no whole number: numpy would round it down, or read several samples."""
    try:
        return operator.index(index)  # type: ignore[arg-type]
    except TypeError:
        raise DatasetError(
            f"index {index!r}: accepted: a whole number; for a part: torch.utils.data.Subset(dataset, range(100))"
        ) from None


# -- reading crops


@dataclass
class _CropReader:
    """Reads the crops of samples.

    Attributes
    ----------
    source, exif, max_pixels
        Where pictures are, and how they are read: see `sources.reading.read_images`.
    remedy
        What to do about a picture that cannot be read.
    names
        Text: the picture of each sample.
    boxes, sizes
        int32, shape (samples, 4) and (samples, 2): what is cut out of the picture; its width and height.
    contents
        Text: `images.describe_content` of each picture at detection, null where unknown, as in an export.
    stamps
        By video: when it was indexed.
    """

    source: Source
    exif: str
    max_pixels: int
    remedy: str
    names: pa.Array
    boxes: NDArray[np.int32]
    sizes: NDArray[np.int32]
    contents: pa.Array
    stamps: dict[str, str | None] = field(default_factory=dict)

    def select(self, chosen: NDArray[np.bool_]) -> _CropReader:
        """Return the reader of some of the samples."""
        mask = pa.array(chosen)
        names, contents = self.names.filter(mask), self.contents.filter(mask)
        return replace(self, names=names, boxes=self.boxes[chosen], sizes=self.sizes[chosen], contents=contents)

    def read_crops(self, positions: NDArray[np.int64]) -> list[Image.Image]:
        """Read the crops of samples, in this order."""
        names = [self.names[position].as_py() for position in positions]
        order = sorted(range(len(names)), key=names.__getitem__)
        self._renew_source(names)
        crops: dict[int, Image.Image] = {}
        ordered = (names[place] for place in order)
        images = read_images(self.source, ordered, exif=self.exif, max_pixels=self.max_pixels)
        with contextlib.closing(images):  # type: ignore[type-var]  # a generator: an error leaves no file open
            for place, (_, image) in zip(order, images, strict=False):
                crops[place] = self._cut_crop(int(positions[place]), names[place], image)
        return [crops[place] for place in range(len(names))]

    def check_videos(self) -> None:
        """Index all videos, here and not in each worker, and check that they are those of detection."""
        if not isinstance(self.source, VideoSource):
            return
        names = self.names.to_pylist()
        files: dict[str, int] = {}
        for position, name in enumerate(names):
            files.setdefault(_get_video(name), position)
        for file, position in files.items():
            self.stamps[file] = self.source.make_stamp(file)
            try:
                index = self.source.index_file(file)
            except (MissingFrameError, UnreadableImageError) as error:
                raise self._fail(names[position], str(error)) from error
            self._check_content(position, names[position], index)

    def _renew_source(self, names: Sequence[str]) -> None:
        """Index videos again if one was replaced since: its frames are other frames now."""
        if not isinstance(self.source, VideoSource):
            return
        stamps = {file: self.source.make_stamp(file) for file in map(_get_video, names)}
        if any(self.stamps.get(file, stamp) != stamp for file, stamp in stamps.items()):
            self.source = VideoSource(self.source.root)
            self.stamps = {}
        self.stamps |= stamps

    def _cut_crop(
        self, position: int, name: str, image: FrameImage | MissingFrameError | UnreadableImageError
    ) -> Image.Image:
        if isinstance(image, Exception):
            raise self._fail(name, str(image)) from image
        self._check_content(position, name, image)
        width, height = self.sizes[position].tolist()
        if (width, height) != (image.width, image.height):
            raise self._fail(name, f"it has {image.width} × {image.height} pixels instead of {width} × {height}")
        x1, y1, x2, y2 = self.boxes[position].tolist()
        try:
            pixels = image.read_pixels()
        except UnreadableImageError as error:
            raise self._fail(name, str(error)) from error
        return Image.fromarray(np.ascontiguousarray(pixels[y1:y2, x1:x2]))

    def _check_content(self, position: int, name: str, picture: FrameImage | VideoIndex) -> None:
        known = self.contents[position].as_py()
        if known is not None and known != picture.content:
            now = f"size and CRC-32 {known}, now {picture.content}"
            raise self._fail(name, f"the file changed since detection ({now})")

    def _fail(self, name: str, reason: str) -> SampleError:
        return SampleError(f"{self.source.root}: {shorten_text(name)}: {reason}; {self.remedy}")


# -- what a run or an export holds


def _find_none(_: bool) -> list[Note]:
    """Check nothing: the parts of an export were checked when it was made."""
    return []


@dataclass(frozen=True)
class _Collected:
    """All samples of a run or of an export.

    Attributes
    ----------
    place
        For messages.
    samples
        The columns of `HandsDataset.samples`.
    reader
        Reads their crops, in the same order.
    classes, numbers
        Names of the classes in the order of their numbers, and the numbers.
    splits
        Names of the parts of the split; empty if there is none.
    split_remedy
        What to do if there is none.
    notes
        Findings about all samples.
    check_leaks
        Refuses a split that leaks, unless near-duplicates are allowed, and returns notes.
    """

    place: str
    samples: pa.Table
    reader: _CropReader
    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    splits: tuple[str, ...]
    split_remedy: str
    notes: list[Note] = field(default_factory=list)
    check_leaks: Callable[[bool], list[Note]] = _find_none

    def select(self, split: str | None, only: Only) -> _Collected:
        """Return the samples of a part of the split, or those that were reviewed."""
        if not len(self.samples):
            raise DatasetError(f"{self.place}: there is no sample in it: no frame has a hand of a wanted class")
        chosen = np.ones(len(self.samples), bool)
        if split is not None:
            self._check_split(split)
            chosen &= pc.equal(self.samples["split"], split).to_numpy()
        if only == "reviewed":
            chosen &= pc.not_equal(self.samples["decision"], "").to_numpy()
        if not chosen.any():
            raise DatasetError(
                f"{self.place}: there is no sample with split = {split!r} and only = {only!r}, of "
                f"{len(self.samples):,} in all; choose another part, or all samples"
            )
        samples = self.samples.filter(pa.array(chosen)).combine_chunks()
        return replace(self, samples=samples, reader=self.reader.select(chosen))

    def _check_split(self, split: str) -> None:
        if not self.splits:
            raise DatasetError(f"{self.place}: split = {split!r}: there is no split; {self.split_remedy}, or give None")
        if split not in self.splits:
            raise DatasetError(
                f"{self.place}: split = {split!r}: there is no such part; {suggest_name(split, self.splits)}"
            )


def _collect(made: FinishedRun | Export | str | os.PathLike[str], box: Box | None) -> _Collected:
    from detectime import runs
    from detectime.exports.contract import Export
    from detectime.storage import store as stores
    from detectime.storage import urls

    if isinstance(made, runs.FinishedRun):
        return _collect_run(made, box or "bbox")
    if not isinstance(made, Export | str | os.PathLike):
        raise DatasetError(f"{made!r}: accepted: the folder of a run or of an export, a finished run, or an Export")
    place = made.folder if isinstance(made, Export) else os.fspath(made)
    if not urls.is_remote(place) and not os.path.isdir(urls.strip_file_scheme(place)):
        what = "this is a file" if os.path.exists(urls.strip_file_scheme(place)) else "there is no such folder"
        raise DatasetError(f"{place}: {what}; give the folder of a run or of an export")
    store = stores.open_store(place, reading=True)
    if stores.has_file(store, _EXPORT_FILE):
        return _collect_export(store, box)
    if stores.has_file(store, MANIFEST_FILE):
        return _collect_run(runs.open_run(place), box or "bbox")
    raise DatasetError(
        f"{place}: this is neither a run nor an export ({MANIFEST_FILE} and {_EXPORT_FILE} are missing); give the "
        "`output` of a run, or the folder of one format of an export"
    )


def _collect_run(run: FinishedRun, box: Box) -> _Collected:
    from detectime import boxes, pairing, sources, splits

    run.check_paired()
    outcomes = run.outcomes
    samples = outcomes[outcomes["outcome"].isin(SAMPLES)].reset_index(drop=True)
    samples.attrs = {}
    split = splits.read_split(run.store)
    samples = samples.assign(split="") if split is None else splits.assign_splits(samples, split)
    shown = pairing.get_boxes(samples, "hand" if box == "context" else box)
    if box == "context":
        shown = boxes.make_context_squares(shown, boxes.HAND_CONTEXT)
    sizes, crops = _measure_crops(samples, shown)
    samples = samples.assign(**dict(zip(CORNERS, crops.T, strict=True)), score=samples["hand_score"])
    data, detection = run.config.data, run.config.detection
    names = pa.array(samples["frame_path"], pa.string())
    contents = _read_contents(run, names)
    reader = _CropReader(
        source=sources.open_source(data.images, data.source_type),  # not that of the run, which may know older videos
        exif=detection.exif,
        max_pixels=detection.max_pixels,
        remedy=f"restore it, or run detection again with the output {run.store}, and then make the dataset anew",
        names=names,
        boxes=crops,
        sizes=sizes,
        contents=contents,
    )
    parts = () if split is None else tuple(split["split"].unique())
    remedy = f"make one: `detectime split {run.store}`"
    found = _make_collected(str(run.store), samples, reader, _number_classes(run, samples), parts, remedy)
    notes = _note_frames(samples, contents, detection.exif)
    return replace(found, notes=notes, check_leaks=partial(_check_leaks, run, samples, contents))


def _check_leaks(run: FinishedRun, samples: pd.DataFrame, contents: pa.Array, allow_similar: bool) -> list[Note]:
    """Refuse samples of a run that are alike in two parts of its split."""
    from detectime import similarity, splits

    hashes, has_hash = similarity.read_sample_hashes(run, samples)
    found = np.array(contents.to_pylist(), dtype=object)
    notes: list[Note] = splits.check_leaks(samples, found, hashes, has_hash, allow_similar=allow_similar)
    return notes


def _collect_export(store: Store, box: Box | None) -> _Collected:
    from detectime.exports.export import read_export
    from detectime.exports.registry import find_format
    from detectime.exports.samples_csv import read_samples_csv

    state = read_export(str(store))
    kind = find_format(state["format"])
    pictures = state["settings"]["images"] or kind.images
    is_crop = pictures == "crops"
    has_box = state["settings"]["box"] or ("bbox" if is_crop else kind.box)
    _check_export(store, state, kind, pictures)
    if box not in (None, has_box):
        raise DatasetError(f"{store}: box = {box!r}: this export has the boxes {has_box!r}; give None, or the run")
    samples = read_samples_csv(store)
    samples = samples[samples["kind"].isin(_HANDS)].reset_index(drop=True)
    shown = [f"crop_{corner}" for corner in CORNERS] if is_crop else list(CORNERS)
    sizes, crops = _measure_crops(samples, samples[shown].to_numpy(np.float64))
    sides = crops[:, 2:] - crops[:, :2]
    reader = _CropReader(
        source=_open_pictures(str(store)),
        exif="apply",
        max_pixels=MAX_PIXELS,
        remedy="make the export again in an empty folder",
        names=pa.array(samples["file"], pa.string()),
        boxes=np.column_stack([np.zeros_like(sides), sides]) if is_crop else crops,
        sizes=sides if is_crop else sizes,
        contents=pa.nulls(len(samples), pa.string()),
    )
    parts = tuple(name for name in state["splits"] if name)
    samples = samples.assign(**dict(zip(CORNERS, crops.T, strict=True)))
    remedy = "export again from a run with a split.csv"
    return _make_collected(str(store), samples, reader, _read_numbers(state, samples), parts, remedy)


def _check_export(store: Store, state: Mapping[str, Any], kind: Format, pictures: str) -> None:
    """Refuse an export that is not finished, or whose pictures are not files."""
    if not state["finished"]:
        raise DatasetError(f"{store}: this export is not finished; the same call of `export` as before finishes it")
    remedy = "give the run, or an export to imagefolder"
    if pictures == "none":
        raise DatasetError(f"{store}: this export to {kind.name} has no pictures; {remedy}")
    if kind.name_picture is None:
        library = "datasets" if kind.name == "huggingface" else kind.name
        raise DatasetError(
            f"{store}: this export to {kind.name} packs its pictures, and is loaded by the library {library!r}: its "
            f"README.md shows how; or {remedy}"
        )


def _read_numbers(state: Mapping[str, Any], samples: pd.DataFrame) -> dict[str, int]:
    """Return the number of each exported class of hands."""
    from detectime.exports.annotations import FACE

    numbers = state["numbers"] | dict(zip(samples["class_name"], samples["label"].tolist(), strict=True))
    return {name: number for name, number in numbers.items() if not (state["settings"]["faces"] and name == FACE)}


def _open_pictures(place: str) -> Source:
    from detectime import sources
    from detectime.storage import urls

    return sources.open_source(place, None if urls.is_remote(place) else "folder")


def _make_collected(
    place: str,
    samples: pd.DataFrame,
    reader: _CropReader,
    numbers: Mapping[str, int],
    splits: tuple[str, ...],
    split_remedy: str,
) -> _Collected:
    """Put together what is common to runs and exports; `numbers` gives the number of each class."""
    classes = tuple(sorted(numbers, key=lambda name: (numbers[name], name)))
    indices = pc.index_in(pa.array(samples["class_name"], pa.string()), pa.array(classes, pa.string()))
    columns = {
        name: pa.array(samples[name], kind, from_pandas=True) for name, kind in _COLUMNS.items() if name in samples
    }
    columns["index"] = indices.cast(pa.int64())
    columns["decision"] = columns["decision"].fill_null("")
    table = pa.table([columns[name] for name in _COLUMNS], schema=pa.schema(_COLUMNS.items()))
    return _Collected(place, table, reader, classes, tuple(numbers[name] for name in classes), splits, split_remedy)


def _measure_crops(samples: pd.DataFrame, shown: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the width and height of each frame, and its crop in whole pixels: all that a box covers in part."""
    from detectime import boxes

    sizes = samples[["width", "height"]].to_numpy(np.float64)
    crops = boxes.clip_boxes(boxes.round_outward(shown), sizes[:, 0], sizes[:, 1])
    return sizes.astype(np.int32), crops.astype(np.int32)


def _number_classes(run: FinishedRun, samples: pd.DataFrame) -> dict[str, int]:
    """Return the number of each wanted class, and of each class that a sample has."""
    vocabulary = run.config.labels
    found = dict(zip(samples["class_name"], samples["label"].tolist(), strict=True))
    return {name: vocabulary[name] for name in run.config.classes} | found


def _read_contents(run: FinishedRun, names: pa.Array) -> pa.Array:
    """Return the content of each frame at detection, null where unknown."""
    detections = run.read_detections(["frame_path", "content"])
    rows = pc.index_in(names, value_set=detections["frame_path"].combine_chunks())
    contents: pa.Array = detections["content"].combine_chunks().take(rows)
    return contents


def _get_video(name: str) -> str:
    """Return the file of a frame of a video."""
    return name.rpartition("/")[0]


def _check_choice(key: str, value: object, accepted: Sequence[str | None]) -> None:
    if value not in accepted:
        raise DatasetError(f"{key} = {value!r}: {suggest_name(str(value), map(str, accepted))}")


def _note_frames(samples: pd.DataFrame, contents: pa.Array, exif: str) -> list[Note]:
    """Note frames that may show something else than was detected, or lying on their side."""
    from detectime.detection import turned_frames

    unchecked = samples.loc[pc.is_null(contents).to_numpy(zero_copy_only=False), "frame_path"].tolist()
    what = "not recorded at detection: a file that changed since is only noticed by its size in pixels"
    notes = note_found("unchecked", unchecked, f"frame has a content {what}", f"frames have contents {what}")
    if exif == "apply":
        return notes
    orientation = pa.array(samples["orientation"].astype("float64"), from_pandas=True)
    frames = pa.table({"frame_path": pa.array(samples["frame_path"], pa.string()), "orientation": orientation})
    return notes + turned_frames.note_turned(frames, exif)


def _note_empty_classes(found: _Collected) -> list[Note]:
    present = set(found.samples["class_name"].unique().to_pylist())
    empty = [name for name in found.classes if name not in present]
    return note_found("empty_class", empty, "class has no sample", "classes have no samples")
