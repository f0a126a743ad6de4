"""Command line: download the hand, render the videos, write frames, labels and truth."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import cv2
import numpy as np
import vtk

from .hand import load_hand
from .person import cut_out_person
from .scene import render_video
from .videos import VIDEOS

NPM_PACKAGE = "@webxr-input-profiles/assets@1.0.20"
HAND_IN_PACKAGE = "package/dist/profiles/generic-hand/right.glb"
JPEG_QUALITY = 80


def download_hand(folder: Path) -> Path:
    """Download ``right.glb`` with npm into a folder; raise SystemExit if npm is not installed or fails."""
    if shutil.which("npm") is None:
        raise SystemExit(f"npm is not installed; install it, or unpack {NPM_PACKAGE} and pass --hand right.glb")
    packed = subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE], cwd=folder, capture_output=True, text=True)
    if packed.returncode != 0:
        raise SystemExit(f"npm pack {NPM_PACKAGE} failed:\n{packed.stderr.strip()}")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        archive.extract(HAND_IN_PACKAGE, folder, filter="data")
    return folder / HAND_IN_PACKAGE


def write_sample(hand_path: Path, output: Path) -> None:
    """Render all videos into a folder; an existing sample is replaced."""
    hand, person = load_hand(hand_path), cut_out_person()
    images = output / "TRAIN_DATA"
    if images.exists():
        shutil.rmtree(images)
    rows: list[tuple[str | int, ...]] = [("video_name", "frame_id", "class_name", "frame_path")]
    truths = []
    for number, video in enumerate(VIDEOS):
        (images / video.name).mkdir(parents=True)
        rng = np.random.default_rng([0, number])  # a video does not depend on those before it
        for frame_id, (picture, truth) in enumerate(render_video(video, hand, person, rng), start=1):
            frame_path = f"{video.name}/{frame_id:04d}.jpg"
            bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            if not cv2.imwrite(str(images / frame_path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise OSError(f"{images / frame_path}: cannot be written")
            rows.append((video.name, frame_id, video.gesture, frame_path))
            truths.append(f"{json.dumps(frame_path)}: {json.dumps(truth)}")
        print(f"{video.name}: {video.frames} frames")
    with (output / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    (output / "truth.json").write_text("{\n" + ",\n".join(truths) + "\n}\n", encoding="utf-8")
    print(f"{len(truths)} frames in {output}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.render_sample",
        description="Render the sample of the demo: frames, labels (train.csv), boxes (truth.json).",
    )
    hand_help = f"generic-hand/right.glb of {NPM_PACKAGE}; default: downloaded by npm"
    parser.add_argument("--hand", type=Path, help=hand_help)
    output_help = "output folder; its TRAIN_DATA is replaced; default: %(default)s"
    parser.add_argument("--output", type=Path, default=Path("data/sample"), help=output_help)
    arguments = parser.parse_args()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)  # VTK warns about a missing display, but renders
    with tempfile.TemporaryDirectory() as folder:
        write_sample(arguments.hand or download_hand(Path(folder)), arguments.output)


if __name__ == "__main__":
    main()
