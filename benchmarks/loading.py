"""Measure what loading a training set costs: `HandsDataset` beside torchvision's ImageFolder on the same crops."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.data import Frames
from detectime import outcomes, runs, sources
from detectime.config import Config
from detectime.detection import run as detection_run
from detectime.exports.export import export_run
from detectime.runs import FinishedRun

BATCH = 64  # crops
EPOCHS = 5  # in a measurement


def print_report(frames: Frames, settings: Config, rounds: int) -> None:
    """Print the CPU time per crop of an epoch in random order, in the process of the loader, without a transform."""
    if not importlib.util.find_spec("torchvision"):
        print("\nWithout torchvision, which the extra `torch` installs: there is nothing to load for.")
        return
    from torchvision.datasets import ImageFolder

    from detectime.dataset import HandsDataset

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with contextlib.redirect_stdout(io.StringIO()):  # progress
            run = make_run(frames, settings, frames.images, folder / "folder")
            packed = make_run(frames, settings, _pack_frames(frames, folder), folder / "archive")
            (export,) = export_run(run, ["imagefolder"], folder / "exports")
        crops = sorted({path.parent.parent for path in Path(export.folder).rglob("*.jpg")})
        datasets: dict[str, Any] = {
            "ImageFolder, exported crops": ImageFolder(str(crops[0]), allow_empty=True),
            "HandsDataset, exported crops": HandsDataset(export),
            "HandsDataset, frames in a folder": HandsDataset(run),
            "HandsDataset, frames in a zip": HandsDataset(packed),
        }
        assert len({len(dataset) for dataset in datasets.values()}) == 1
        contenders = {name: lambda dataset=dataset: _time_crop(dataset) for name, dataset in datasets.items()}
        measured = measure.time_in_turn(contenders, rounds)
    reference = next(iter(measured.values()))
    measure.print_table(
        f"{frames.title}: CPU ms per crop, {len(datasets['HandsDataset, exported crops'])} crops in batches of {BATCH}",
        ("dataset", "ms per crop", "× ImageFolder"),
        (
            (name, measure.format_spread(values, 2), measure.format_ratios(values, reference))
            for name, values in measured.items()
        ),
    )


def _time_crop(dataset: Any) -> float:
    """Return the CPU milliseconds per crop."""
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, BATCH, shuffle=True, collate_fn=len)
    return 1000 * measure.time_cpu(lambda: [sum(loader) for _ in range(EPOCHS)]) / EPOCHS / len(dataset)


def make_run(frames: Frames, settings: Config, images: Path, output: Path) -> FinishedRun:
    """Detect and pair all frames of a table."""
    data = dataclasses.replace(settings.data, images=str(images), labels=str(frames.labels), output=str(output))
    config = dataclasses.replace(settings, data=data)
    detection_run.detect_frames(frames.table, sources.open_source(str(images)), config, str(output))
    finished = runs.open_run(output)
    outcomes.pair_run(finished)
    return finished


def _pack_frames(frames: Frames, folder: Path) -> Path:
    """Write the frames into an archive."""
    path = folder / "frames.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in frames.names:
            archive.write(frames.images / name, name)
    return path
