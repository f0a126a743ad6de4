"""Print all tables of the README and of RESULTS.md; the peers are measured in the same run.

python -m benchmarks                                    the rendered sample only
python -m benchmarks --contest DIR --hagrid DIR         DIR/TRAIN_DATA, DIR/train.csv; DIR/hagrid_dataset, …
python -m benchmarks --only worlds --hagrid DIR --webcam DIR
                                                        DIR/TRAIN_DATA, DIR/train.csv, DIR/truth.json; intervals
python -m benchmarks --only cost --rounds 5 > FILE      one chapter, as Markdown
python -m benchmarks --against COMMIT --contest DIR     compare with another commit, nothing else; not for CI. With
                                                        --hagrid and --webcam also the samples, over people
                                                        (alone: --only worlds)
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import shlex
import subprocess
import sys
from pathlib import Path

import cv2

import definitions
import detectime
from benchmarks import (
    against,
    against_worlds,
    cost,
    disagreement,
    doubting,
    exporting,
    loading,
    measure,
    peers,
    quality,
    throughput,
    world_report,
)
from benchmarks.against import CommitError
from benchmarks.data import Frames
from benchmarks.worlds import World
from detectime import config as configuration
from detectime import paths
from detectime.config import Config
from detectime.detection.engines import local
from detectime.errors import ConfigError
from detectime.labels.tables import TableError
from detectime.sources.contract import SourceError
from detectime.storage.downloads import WeightsError

CHAPTERS = ("cost", "quality", "worlds", "throughput", "exporting", "loading", "doubting", "exploring", "rows")


def _resolve(text: str) -> Path:
    """Return an absolute path: the measured processes run in other folders."""
    return Path(text).resolve()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contest", type=_resolve, metavar="DIR", default=paths.SAMPLE, help="labelled frames")
    parser.add_argument("--hagrid", type=_resolve, metavar="DIR", help="images and annotations in HaGRID's layout")
    parser.add_argument("--webcam", type=_resolve, metavar="DIR", help="webcam frames with annotated hands")
    parser.add_argument(
        "--output",
        type=_resolve,
        metavar="DIR",
        default=Path(definitions.ROOT_DIR, "reports", "benchmarks"),
        help="where wrong frames are written: a table, and pictures of people, which git ignores in the default folder",
    )
    parser.add_argument("--only", nargs="+", choices=CHAPTERS, default=CHAPTERS, help="print only these chapters")
    parser.add_argument("--rounds", type=int, default=5, help="number of times that each contender is measured")
    parser.add_argument("--no-peer", action="store_true", help="skip MediaPipe, whose environment takes 1 GB")
    parser.add_argument("--against", metavar="COMMIT", help="compare CPU time and hands.json with those of this commit")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = configuration.load_config()
    contest = Frames.read_contest(arguments.contest, settings)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    print(
        f"{datetime.date.today()}, detectime {detectime.__version__}, "
        f"{local.count_available_cores()} cores: `{command}`"
    )
    print("\nMedian of the rounds, with minimum and maximum.")
    if arguments.against:
        if "cost" in arguments.only:
            against.print_report(arguments.against, arguments.contest.absolute(), contest, arguments.rounds)
        if "worlds" in arguments.only:
            against_worlds.print_report(arguments.against, _read_people(arguments, settings))
        return
    sample = World(Frames.read_contest(paths.SAMPLE, settings))
    people = _read_people(arguments, settings)
    others = [World(contest)] if arguments.contest != paths.SAMPLE else []

    with contextlib.ExitStack() as stack:
        peer = None
        with measure.use_one_core():
            if not arguments.no_peer and {"cost", "quality", "worlds"} & set(arguments.only):
                try:
                    peer = stack.enter_context(peers.start_mediapipe())
                except (OSError, subprocess.CalledProcessError) as error:
                    print(f"\nWithout MediaPipe: {error}")
            if "cost" in arguments.only:
                print("\n## Cost per frame")
                cost.print_report(contest, settings, peer, arguments.rounds)
            if "quality" in arguments.only:
                print("\n## Quality of the samples")
                quality.print_report([sample, *people, *others], peer)
                for world in people[:1] if arguments.hagrid else []:
                    disagreement.print_report(world.frames, settings)
            if "worlds" in arguments.only:
                print("\n## Quality by people and by size of the face")
                world_report.print_report(people, peer, arguments.output)
        if "throughput" in arguments.only:
            print("\n## Scaling on one machine")
            throughput.print_report(contest, settings, arguments.rounds)
        if "exporting" in arguments.only:
            print("\n## Exporting the training set")
            with measure.use_one_core():
                exporting.print_report(contest, settings, arguments.rounds)
            subprocess.run([sys.executable, "-m", "benchmarks.exporting"], check=True)
            subprocess.run([sys.executable, "-m", "benchmarks.similar"], check=True)
        if "loading" in arguments.only:
            print("\n## Loading the training set")
            with measure.use_one_core():
                loading.print_report(contest, settings, arguments.rounds)
        if "doubting" in arguments.only:
            print("\n## Doubt")
            doubting.print_report(
                [world.frames for world in people], [sample.frames, *(w.frames for w in others)], settings
            )
            subprocess.run([sys.executable, "-m", "benchmarks.doubting"], check=True)
        if "exploring" in arguments.only:
            print("\n## Exploring", flush=True)
            subprocess.run([sys.executable, "-m", "benchmarks.exploring"], check=True)
        if "rows" in arguments.only:
            print("\n## Cost of a million frames without detection", flush=True)
            # In a separate process, so that its peak memory counts from zero.
            subprocess.run([sys.executable, "-m", "benchmarks.rows"], check=True)


def _read_people(arguments: argparse.Namespace, settings: Config) -> list[World]:
    """Return the frames with annotated hands of known people."""
    people = [World(Frames.read_hagrid(arguments.hagrid, settings))] if arguments.hagrid else []
    return people + ([World(Frames.read_contest(arguments.webcam, settings))] if arguments.webcam else [])


if __name__ == "__main__":
    try:
        main()
    except (CommitError, ConfigError, SourceError, TableError, WeightsError) as error:
        sys.exit(str(error))
