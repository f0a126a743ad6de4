"""Labelled frames to measure on, in the layout of the contest or of HaGRID."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pyarrow as pa

from detectime import evaluation, pairing
from detectime.config import Config, DetectionConfig
from detectime.detection.worker import Worker
from detectime.detectors.contract import Quality
from detectime.detectors.registry import choose_detectors
from detectime.labels import frame_table, frames_csv
from detectime.schema import DETECTIONS, PAIRING_COLUMNS, TRUTH
from detectime.sources.folder import FolderSource

WORDS: tuple[str, ...] = get_args(Quality)
"""The values of `detection.quality` that are measured."""


def make_worker(detection: DetectionConfig) -> Worker:
    """Build a worker in this process."""
    return Worker(choose_detectors(detection))


@dataclass(frozen=True)
class Frames:
    """Frames below a folder, their labels and frame table, and the file of their truth if the table has none."""

    title: str
    images: Path
    labels: Path
    table: pd.DataFrame
    truth: Path | None = None

    @classmethod
    def read_contest(cls, folder: Path, settings: Config) -> Frames:
        """Read ``TRAIN_DATA``, ``train.csv`` and, if it exists, ``truth.json``."""
        images, labels, truth = folder / "TRAIN_DATA", folder / "train.csv", folder / "truth.json"
        table = frames_csv.read_frames_csv(labels, FolderSource(str(images)), settings.labels)
        return cls(
            folder.name,
            images,
            labels,
            frame_table.select_frames(table, settings.classes),
            truth if truth.is_file() else None,
        )

    @classmethod
    def read_hagrid(cls, folder: Path, settings: Config) -> Frames:
        """Read ``hagrid_dataset`` and ``hagrid_annotations/val``."""
        images, annotations = folder / "hagrid_dataset", folder / "hagrid_annotations" / "val"
        data = replace(settings.data, images=str(images), labels=str(annotations))
        table = frame_table.read_labels(replace(settings, data=data), FolderSource(str(images)))
        return cls("HaGRID", images, annotations, frame_table.select_frames(table, settings.classes))

    @property
    def has_truth(self) -> bool:
        """Whether there are annotated boxes."""
        return self.truth is not None or TRUTH in self.table

    @property
    def names(self) -> list[str]:
        """Paths of the wanted frames."""
        names: list[str] = self.table.loc[self.table["wanted"], "frame_path"].tolist()
        return names

    def detect(self, worker: Worker, images: Path, at: Callable[[int | None], None] = lambda _: None) -> pa.Table:
        """Run detection on the wanted frames in a folder; `at` is called before each."""
        return worker(FolderSource(str(images)), self.names, at)

    def pair(self, rows: pa.Table | list[dict[str, Any]], settings: Config) -> pd.DataFrame:
        """Pair detections."""
        schema = pa.schema([DETECTIONS.field(name) for name in PAIRING_COLUMNS])
        detections = pa.Table.from_pylist(rows, schema) if isinstance(rows, list) else rows
        return pairing.pair_frames(self.table, detections, settings.pairing)

    def make_samples(self, worker: Worker, images: Path, settings: Config) -> pd.DataFrame:
        """Run detection on the wanted frames in a folder, and pair."""
        return self.pair(self.detect(worker, images), settings)

    def read_truth(self, samples: pd.DataFrame) -> pd.DataFrame:
        """Read the annotated boxes, in pixels of the frames of the samples."""
        return evaluation.read_truth(self.truth) if self.truth else evaluation.extract_truth(samples)

    def score(self, samples: pd.DataFrame) -> pd.Series:
        """Score samples against the truth; returns the row of `evaluation.score_samples` for all classes."""
        row: pd.Series = evaluation.score_samples(samples, self.read_truth(samples)).T["all"]
        return row
