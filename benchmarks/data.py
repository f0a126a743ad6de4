"""What is measured on: labelled frames in the contest's layout, or in HaGRID's."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from detectime import evaluate, pairing
from detectime import frames as frame_table
from detectime.config import Config
from detectime.detect import Worker
from detectime.sources import Folder


@dataclass(frozen=True)
class Frames:
    """Frames below a folder, their table, and where their ground truth is, if there is any."""

    title: str
    images: Path
    table: pd.DataFrame
    truth: Path | None = None

    @classmethod
    def contest(cls, folder: Path, settings: Config) -> Frames:
        """``TRAIN_DATA``, ``train.csv`` and perhaps ``truth.json``."""
        images, truth = folder / "TRAIN_DATA", folder / "truth.json"
        table = frame_table.read(folder / "train.csv", Folder(str(images)), settings.labels)
        return cls(folder.name, images, frame_table.select(table, settings.classes), truth if truth.is_file() else None)

    @classmethod
    def hagrid(cls, folder: Path, settings: Config) -> Frames:
        """``hagrid_dataset`` and ``hagrid_annotations/val``."""
        images, annotations = folder / "hagrid_dataset", folder / "hagrid_annotations" / "val"
        with tempfile.TemporaryDirectory() as place:
            labels = Path(place, "train.csv")
            frame_table.hagrid_labels(annotations).to_csv(labels, index=False)
            table = frame_table.read(labels, Folder(str(images)), settings.labels)
        return cls("HaGRID", images, frame_table.select(table, settings.classes), annotations)

    @property
    def names(self) -> list[str]:
        """The wanted frames."""
        names: list[str] = self.table.loc[self.table["wanted"], "frame_path"].tolist()
        return names

    def samples(self, worker: Worker, images: Path, settings: Config) -> pd.DataFrame:
        """Look at the wanted frames in a folder, and pair."""
        return pairing.pair(self.table, worker(Folder(str(images)), self.names), settings.pairing)

    def score(self, samples: pd.DataFrame) -> pd.Series:
        """Score samples against the ground truth: the row of `evaluate.score` for all classes."""
        assert self.truth
        read = evaluate.read_hagrid(self.truth, samples) if self.truth.is_dir() else evaluate.read_truth(self.truth)
        row: pd.Series = evaluate.score(samples, read).T["all"]
        return row
