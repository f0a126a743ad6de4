"""What networks take: landmarks, or crops, which are cut once, so that an epoch reads one file and no frames."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from detectime.boxes import Flags
from detectime.classifier.crops import fit_square
from detectime.classifier.settings import TrainingSettings
from detectime.classifier.training_set import TrainingError, TrainingSet
from detectime.dataset import HandsDataset, SampleError
from detectime.notes import Note
from detectime.progress import Progress

_BATCH = 32
_FEW = 500  # samples that are not worth the start of worker processes
_SPARE = 1 << 30  # bytes of the disk that stay free


@dataclass(frozen=True)
class Inputs:
    """The samples of a training set as a network takes them.

    Attributes
    ----------
    values
        Crops, uint8, shape (samples, side, side, 3); or landmarks, float32, shape (samples, 21, 3).
    training_set
        The training set without the samples whose frames could not be read.
    notes
        Which these are.
    """

    values: NDArray[Any]
    training_set: TrainingSet
    notes: tuple[Note, ...] = ()


def read_inputs(
    training_set: TrainingSet, settings: TrainingSettings, folder: str | os.PathLike[str], workers: int = 0
) -> Inputs:
    """Read what the network of the settings takes.

    Parameters
    ----------
    training_set
        What `training_set.read_training_set` returned.
    settings
        The settings, resolved.
    folder
        A folder for the crops, on a disk with room; they are of no use afterwards.
    workers
        Processes that read frames; 0: this one, as for fewer than 500 samples.

    Raises
    ------
    TrainingError
        If the disk has no room for the crops, no frame can be read, or too many cannot for anything to be trained or
        tested.

    Examples
    --------
    >>> read_inputs(training_set, settings.resolve(), "/tmp").values.shape  # doctest: +SKIP
    (100, 96, 96, 3)
    """
    if settings.side is None:
        if training_set.landmarks is None:
            raise TrainingError("the training set was read without landmarks; read it with_landmarks=True")
        return Inputs(training_set.landmarks, training_set)
    rows = np.concatenate([training_set.train, training_set.validation, training_set.test])
    file = Path(folder) / "crops.npy"
    crops, is_cut, notes = _cut_crops(training_set.dataset, np.sort(rows), settings.side, file, workers)
    return Inputs(crops, training_set.select(is_cut), tuple(notes))


def _cut_crops(
    dataset: HandsDataset, rows: NDArray[np.int64], side: int, file: Path, workers: int
) -> tuple[NDArray[np.uint8], Flags, list[Note]]:
    """Cut the crops of samples into a file of an array that is mapped into memory: only what is used takes any.

    Returns
    -------
    crops
        uint8, shape (samples, side, side, 3).
    is_cut
        bool, shape (samples,). False also where a frame is gone, cannot be read, or changed.
    notes
        How many frames these are, with the first reason.
    """
    shape = (len(dataset), side, side, 3)
    _check_room(file, int(np.prod(shape)))
    crops = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    is_cut = np.zeros(len(dataset), bool)
    failed: list[str] = []
    loader = DataLoader(
        _Reader(dataset, rows, side),
        batch_size=_BATCH,
        num_workers=0 if len(rows) < _FEW else workers,
        multiprocessing_context="spawn" if workers and len(rows) >= _FEW else None,
        collate_fn=list,
    )
    with Progress(len(rows), name="crops") as progress:
        for batch in loader:
            for row, crop in batch:
                if isinstance(crop, str):
                    failed.append(crop)
                else:
                    crops[row], is_cut[row] = crop, True
            progress.add(len(batch))
    if not is_cut.any():
        raise TrainingError(
            f"{dataset.root}: none of {len(rows):,} samples can be cut out of its frame; the first: {failed[0]}. If "
            "the frames lie elsewhere now, `detectime relocate` tells the run where"
        )
    return crops, is_cut, _note_failed(failed)


class _Reader(Dataset[tuple[int, Any]]):  # type: ignore[misc, unused-ignore]
    """Crops of samples fitted into a square, or why there is none; a frame that fails costs only itself."""

    def __init__(self, dataset: HandsDataset, rows: NDArray[np.int64], side: int) -> None:
        self._dataset, self._rows, self._side = dataset, rows, side

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, Any]]:
        rows = self._rows[list(indices)].tolist()
        try:
            found: list[Any] = [image for image, _ in self._dataset.__getitems__(rows)]
        except SampleError:
            found = [self._read(row) for row in rows]
        return [
            (row, image if isinstance(image, str) else fit_square(np.asarray(image), self._side))
            for row, image in zip(rows, found, strict=True)
        ]

    def _read(self, row: int) -> Any:
        try:
            return self._dataset[row][0]
        except SampleError as error:
            return str(error).removeprefix(f"{self._dataset.root}: ")  # names the frame first


def _check_room(file: Path, needed: int) -> None:
    free = shutil.disk_usage(file.parent).free - _SPARE
    if needed > free:
        raise TrainingError(
            f"{file}: the crops take {needed / 1e9:.1f} GB while the classifier is trained, and "
            f"{max(0, free) / 1e9:.1f} GB are free; choose a smaller side, or set the environment variable TMPDIR to a "
            "folder on another disk"
        )


def _note_failed(failed: Sequence[str]) -> list[Note]:
    if not failed:
        return []
    what = "sample is left out: its frame" if len(failed) == 1 else "samples are left out: their frames"
    text = f"{what} cannot be read, or changed since detection; the first: {failed[0]}"  # an example would be shortened
    return [Note("unreadable", len(failed), text)]
