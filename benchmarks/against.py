"""Compare this tree with another commit: CPU time of detection, and whether `hands.json` has the same bytes.

A difference of three percent is less than the variation of a process on a shared machine from one second to the next.
Therefore the trees take turns in random order on small slices of the frames, a fraction of a second each; each slice is
processed several times, and its minimum counts; and the processes are restarted in each round, because memory layout
makes one process a percent faster than another. The commit takes part twice: its ratio to itself is the remaining
noise.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import definitions
from benchmarks import measure
from benchmarks.data import Frames
from benchmarks.peers import Loop
from detectime.detectors.hagrid import WEIGHTS
from detectime.storage import downloads
from detectime.storage.downloads import WeightsError

Seconds = NDArray[np.float64]

THIS = "this tree"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "hagrid, mediapipe": {"hand_detector": ["hagrid", "mediapipe"]},
}

_SLICE = 8  # frames that a tree processes per turn
_PASSES = 4  # over all frames, per round
_RESAMPLES = 2000
_LOOP = Path(__file__).with_name("against_loop.py")
_NOTEBOOK = Path("notebooks", "01_get_train_data.ipynb")


class CommitError(RuntimeError):
    """A commit cannot be checked out, or its notebook fails; the message is that of git or papermill."""


def print_report(commit: str, contest: Path, frames: Frames, rounds: int) -> None:
    """Print the tables of the comparison.

    Parameters
    ----------
    commit
        Any revision that git accepts.
    contest
        The folder of `frames`, which contains ``TRAIN_DATA`` and ``train.csv``.
    frames
        The frames to process.
    rounds
        Number of rounds; all processes are restarted in each one.

    Raises
    ------
    CommitError
        If git cannot check the commit out, or if a notebook fails.
    """
    configurations, environment = _find_weights()
    with check_out(commit) as tree:
        trees = {commit: tree, f"{commit} again": tree, THIS: definitions.ROOT_DIR}
        for name, detection in configurations.items():
            with measure.use_one_core():
                measured = [measure_round(trees, detection, frames, environment, number) for number in range(rounds)]
                shares = _measure_shares(detection, frames, environment)
            _print_times(
                f"{name}: {len(frames.names)} frames, including reading, one thread", measured, len(frames.names)
            )
            _print_shares(shares)
        with tempfile.TemporaryDirectory() as folder:
            for name, detection in configurations.items():
                written = [
                    write_hands(t, contest, detection, Path(folder, f"{k} {name}"), environment)
                    for k, t in enumerate((tree, definitions.ROOT_DIR))
                ]
                same = "same bytes" if written[0] == written[1] else "DIFFERENT BYTES"
                print(f"\nhands.json, {name}: {same} ({len(json.loads(written[1]))} samples)", flush=True)


@contextlib.contextmanager
def check_out(commit: str) -> Iterator[Path]:
    """Check a commit out into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="detectime-against-") as folder:
        tree = Path(folder, "tree")
        try:
            _run_git("worktree", "add", "--detach", "--quiet", str(tree), commit)
            yield tree
        finally:
            if tree.exists():
                _run_git("worktree", "remove", "--force", str(tree))


def measure_round(
    trees: Mapping[str, Path], detection: Mapping[str, Any], frames: Frames, environment: Mapping[str, str], number: int
) -> dict[str, Seconds]:
    """Measure all trees on the same frames in turn, in new processes.

    Parameters
    ----------
    trees
        The folder of each tree, by name.
    detection
        Settings of the section `detection`.
    frames
        The frames to process.
    environment
        Environment variables that the processes need.
    number
        Number of the round. It seeds the order in which processes start and take turns.

    Returns
    -------
    dict
        For each tree, the minimum CPU seconds of each slice: float64, shape (slices,).
    """
    slices = [frames.names[k : k + _SLICE] for k in range(0, len(frames.names), _SLICE)]
    random = np.random.default_rng(number)
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(_start_worker(trees[name], detection, frames, environment))
            for name in random.permutation(list(trees)).tolist()
        }
        taken = {name: np.full((_PASSES, len(slices)), np.inf) for name in trees}
        for turn, (k, part) in itertools.product(range(_PASSES), enumerate(slices)):
            for name in random.permutation(list(trees)).tolist():
                taken[name][turn, k] = workers[name].detect(part)["all"]
    return {name: seconds.min(axis=0) for name, seconds in taken.items()}


def write_hands(
    tree: Path, contest: Path, detection: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> bytes:
    """Run the notebook of a tree on frames in the contest's layout, and return its hands.json.

    Raises
    ------
    CommitError
        If the notebook fails.
    """
    given: dict[str, object] = {"images": contest / "TRAIN_DATA", "labels": contest / "train.csv"}
    given |= {key: ", ".join(value) for key, value in detection.items()}
    return (run_notebook(tree, given, folder, environment) / "hands.json").read_bytes()


def run_notebook(tree: Path, parameters: Mapping[str, object], folder: Path, environment: Mapping[str, str]) -> Path:
    """Run the notebook of a tree, the one interface that all commits share, and return the folder of its run.

    Parameters
    ----------
    tree
        The folder of the commit.
    parameters
        Of the notebook, except `output`.
    folder
        A new folder, for the run and the executed notebook.
    environment
        Environment variables that it needs.

    Raises
    ------
    CommitError
        If the notebook fails.
    """
    folder.mkdir()
    run = folder / "run"
    arguments = [part for key, value in {**parameters, "output": run}.items() for part in ("-p", key, str(value))]
    command = [sys.executable, "-m", "papermill", str(tree / _NOTEBOOK), str(folder / "out.ipynb"), *arguments]
    variables = _make_environment(tree, environment)
    done = subprocess.run([*command, "--no-progress-bar"], cwd=folder, env=variables, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise CommitError(f"{tree}: the notebook fails:\n{done.stderr.strip()}")
    return run


def bootstrap_ratio(ours: Seconds, theirs: Seconds, seed: int = 0) -> tuple[float, float, float]:
    """Return the ratio of the CPU times of two trees, and its 95 % confidence interval.

    Rounds are resampled, then slices within each round, because an effect that lasts for the whole life of a process is
    one observation, not one per slice.

    Parameters
    ----------
    ours, theirs
        CPU seconds: float64, shape (rounds, slices).
    seed
        Seed of the random draws.

    Returns
    -------
    median, lower, upper
        Of the resampled ratios of sums.

    Examples
    --------
    >>> same = np.array([[0.2, 0.1], [0.4, 0.1]])
    >>> bootstrap_ratio(1.5 * same, same)
    (1.5, 1.5, 1.5)
    """
    random = np.random.default_rng(seed)
    rounds, slices = ours.shape
    row = random.integers(rounds, size=(_RESAMPLES, rounds))[..., None]
    column = random.integers(slices, size=(_RESAMPLES, rounds, slices))
    ratios = ours[row, column].sum(axis=(1, 2)) / theirs[row, column].sum(axis=(1, 2))
    lower, median, upper = (round(float(value), 6) for value in np.percentile(ratios, (2.5, 50, 97.5)))
    return median, lower, upper


class _Worker(Loop):
    """A detection worker in a process that waits for orders."""

    def load(self, images: Path, detection: Mapping[str, Any], profile: bool) -> Path:
        """Load the models, and return the tree that detectime was imported from."""
        return Path(self._ask({"images": str(images), "detection": dict(detection), "profile": profile}))

    def detect(self, names: Sequence[str]) -> dict[str, float]:
        """Run detection on frames. Returns CPU seconds: `all`, and with `profile` those of each new function."""
        seconds: dict[str, float] = self._ask({"frames": list(names)})
        return seconds


@contextlib.contextmanager
def _start_worker(
    tree: Path, detection: Mapping[str, Any], frames: Frames, environment: Mapping[str, str], *, profile: bool = False
) -> Iterator[_Worker]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(_LOOP)],  # -P: do not import from the folder of the loop
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tree,
        env=_make_environment(tree, environment),
    )
    try:
        worker = _Worker(process)
        imported = worker.load(frames.images, detection, profile)
        if imported != tree.resolve():
            raise RuntimeError(f"imported {imported} instead of {tree}")
        worker.detect(frames.names)  # warms up the models and the page cache
        yield worker
    finally:
        process.kill()
        process.wait()


def _measure_shares(
    detection: Mapping[str, Any], frames: Frames, environment: Mapping[str, str]
) -> list[dict[str, float]]:
    """Time the functions of this tree that fill columns that 0.2.0 did not have."""
    with _start_worker(definitions.ROOT_DIR, detection, frames, environment, profile=True) as worker:
        return [worker.detect(frames.names) for _ in range(_PASSES)]


def _print_times(title: str, measured: Sequence[Mapping[str, Seconds]], frames: int) -> None:
    """Print one row per tree: CPU time, and its ratio to that of the first tree."""
    seconds = {name: np.array([one[name] for one in measured]) for name in measured[0]}
    base = next(iter(seconds.values()))
    rows = []
    for name, taken in seconds.items():
        median, lower, upper = bootstrap_ratio(taken, base)
        rows.append(
            (
                name,
                measure.format_spread(1000 * taken.sum(axis=1) / frames, 2),
                measure.format_spread(taken.sum(axis=1) / base.sum(axis=1), 3),
                f"{median:.3f} ({lower:.3f}…{upper:.3f})",
            )
        )
    measure.print_table(title, ("", "CPU ms per frame", "ratio per round", "ratio, 95 % interval"), rows)


def _print_shares(shares: Sequence[Mapping[str, float]]) -> None:
    """Print the share of CPU time of each new function."""
    rows = [
        (name, measure.format_spread((100 * one[name] / one["all"] for one in shares), 2))
        for name in shares[0]
        if name != "all"
    ]
    if rows:
        measure.print_table(f"Share of new functions in {THIS}", ("", "% of CPU time"), rows)


def _find_weights() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the configurations whose weights are available, and the environment variables that locate them."""
    try:
        return CONFIGURATIONS, locate_weights()
    except WeightsError as error:
        print(f"\nSkipped hagrid: {error}")
        return {"default": CONFIGURATIONS["default"]}, {}


def locate_weights() -> dict[str, str]:
    """Return the environment variable that names the folder of the downloaded weights.

    Raises
    ------
    WeightsError
        If they are not there.
    """
    return {"DETECTIME_WEIGHTS": str(downloads.find_weights(WEIGHTS).parent)}


def _make_environment(tree: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **more, "PYTHONPATH": str(tree)}


def _run_git(*arguments: str) -> None:
    try:
        subprocess.run(
            ["git", "-C", str(definitions.ROOT_DIR), *arguments],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    except subprocess.CalledProcessError as error:
        raise CommitError(f"--against {arguments[-1]}: {error.stderr.splitlines()[0]}") from error
    except FileNotFoundError as error:
        raise CommitError("--against: git is not installed") from error
