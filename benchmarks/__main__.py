"""All tables of the README and of RESULTS.md, the peers in the same run.

python -m benchmarks                                    the rendered sample alone
python -m benchmarks --contest DIR --hagrid DIR         DIR/TRAIN_DATA, DIR/train.csv; DIR/hagrid_dataset, …
python -m benchmarks --only cost --rounds 5 > FILE      one chapter, in Markdown
python -m benchmarks --against COMMIT --contest DIR     this tree beside another commit, nothing else; not for CI
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

import detectime
from benchmarks import against, cost, disagreement, measure, peers, quality, throughput
from benchmarks.against import CommitError
from benchmarks.data import Frames
from detectime import config as configuration
from detectime import paths
from detectime.detection.engines import local
from detectime.errors import ConfigError
from detectime.labels.tables import TableError
from detectime.sources.contract import SourceError
from detectime.storage.downloads import WeightsError

CHAPTERS = ("cost", "quality", "throughput", "rows")


def _resolve(text: str) -> Path:
    """Return a path that means the same in every folder: the processes that are measured run in others."""
    return Path(text).resolve()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contest", type=_resolve, metavar="DIR", default=paths.SAMPLE, help="labelled frames")
    parser.add_argument("--hagrid", type=_resolve, metavar="DIR", help="images and annotations in HaGRID's own layout")
    parser.add_argument("--only", nargs="+", choices=CHAPTERS, default=CHAPTERS, help="these chapters")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender has its turn")
    parser.add_argument("--no-peer", action="store_true", help="without MediaPipe, whose environment takes 1 GB")
    parser.add_argument("--against", metavar="COMMIT", help="compare CPU time and hands.json with this commit's")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = configuration.load_config()
    contest = Frames.contest(arguments.contest, settings)
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    print(
        f"{datetime.date.today()}, detectime {detectime.__version__}, "
        f"{local.count_available_cores()} cores: `{command}`"
    )
    print("\nMedian of the rounds, and the least and the most of them.")
    if arguments.against:
        against.report(arguments.against, arguments.contest.absolute(), contest, arguments.rounds)
        return
    sets = [Frames.contest(paths.SAMPLE, settings)]
    sets += [Frames.hagrid(arguments.hagrid, settings)] if arguments.hagrid else []
    sets += [contest] if arguments.contest != paths.SAMPLE else []

    with contextlib.ExitStack() as stack:
        peer = None
        with measure.one_core():
            if not arguments.no_peer and {"cost", "quality"} & set(arguments.only):
                try:
                    peer = stack.enter_context(peers.mediapipe())
                except (OSError, subprocess.CalledProcessError) as error:
                    print(f"\nWithout MediaPipe: {error}")
            if "cost" in arguments.only:
                print("\n## What a frame costs")
                cost.report(contest, settings, peer, arguments.rounds)
            if "quality" in arguments.only:
                print("\n## How good the samples are")
                quality.report(sets, settings, peer)
                for frames in sets[1:2] if arguments.hagrid else []:
                    disagreement.report(frames, settings)
        if "throughput" in arguments.only:
            print("\n## How it scales on one machine")
            throughput.report(contest, settings, arguments.rounds)
        if "rows" in arguments.only:
            print("\n## What a million frames cost apart from looking at them", flush=True)
            subprocess.run([sys.executable, "-m", "benchmarks.rows"], check=True)  # its memory is its own


if __name__ == "__main__":
    try:
        main()
    except (CommitError, ConfigError, SourceError, TableError, WeightsError) as error:
        sys.exit(str(error))
