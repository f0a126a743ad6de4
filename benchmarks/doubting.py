"""Measure doubt: how early it shows wrong boxes and wrong labels, beside the score of the hand, and what it costs.

python -m benchmarks.doubting [SAMPLES]    the cost; the rest is a chapter of `python -m benchmarks`
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import measure, ranking
from benchmarks.data import Frames
from benchmarks.loading import make_run
from benchmarks.ranking import Judged
from benchmarks.rows import ListedFolder, run_shards, write_labels
from detectime import boxes, outcomes, pairing, resampling, runs
from detectime import config as configuration
from detectime.boxes import Flags, Floats
from detectime.config import Config
from detectime.detection import run as detection_run
from detectime.doubt import Reason, score_doubt
from detectime.doubt.videos import score_neighbours
from detectime.errors import DocumentedError
from detectime.evaluation import CORRECT, evaluate_run
from detectime.label_check import check_labels
from detectime.labels import frame_table, frames_csv
from detectime.runs import FinishedRun
from detectime.schema import CORNERS, SAMPLES, Outcome
from detectime.truth import read_truth

WEAKER: dict[str, dict[str, Any]] = {
    "fallback frame": {"fallback": "frame"},
    "fast": {"quality": "fast", "fallback": "frame"},
    "hagrid": {"hand_detector": "hagrid", "fallback": "frame"},
    "best, rule 2021": {"quality": "best", "rule": "2021", "fallback": "frame", "hand_confidence": 0.1},
    "any score, rule 2021": {"hand_confidence": 0.05, "rule": "2021", "fallback": "frame"},
    "hands in the frame": {"search": "frame", "hand_confidence": 0.1, "rule": "2021", "fallback": "frame"},
    "no face needed": {
        **{"search": "frame", "hand_confidence": 0.2, "fallback": "frame"},
        **{"crop_coefficient": 0.3, "wider_coefficient": 0.3},
    },
    "any face": {"face_confidence": 0.02, "hand_confidence": 0.1, "rule": "2021", "fallback": "frame"},
    "near the face": {
        **{"search_coefficient": 0.7, "crop_coefficient": 0.6},
        **{"hand_confidence": 0.1, "fallback": "frame"},
    },
    "near the face, fast": {
        **{"search_coefficient": 1.0, "quality": "fast"},
        **{"hand_confidence": 0.2, "fallback": "frame"},
    },
    "near the face, hagrid": {
        **{"search_coefficient": 0.8, "hand_detector": "hagrid", "rule": "2021", "fallback": "frame"},
    },
    "far, rule 2021": {"search_coefficient": 1.0, "crop_coefficient": 3.0, "hand_confidence": 0.05, "rule": "2021"},
}
"""Settings that give more wrong boxes than the default."""

SAMPLES_TO_TIME = 175_000  # as many as the contest has
SEEDS = 20
_SWAPPED = 0.05


@dataclass(frozen=True, eq=False)
class Scored:
    """Samples with their doubt; `score` is one minus that of the hand, and `shares` has a column per `Reason`."""

    judged: Judged
    doubt: Floats
    score: Floats
    shares: Floats


def print_report(people: Sequence[Frames], others: Sequence[Frames], settings: Config) -> None:
    """Print how doubt ranks wrong samples.

    Parameters
    ----------
    people
        Frames with annotated hands of known people: for wrong boxes, and those of several classes for wrong labels too.
    others
        Further frames, for wrong labels.
    settings
        The default.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        scored = {frames.title: _score_wrong_boxes(frames, folder / frames.title) for frames in people}
        labelled = [frames for frames in (*people, *others) if frames.table["class_name"].nunique() > 1]
        made = {frames.title: _make_run(frames, settings, folder / "labels" / frames.title) for frames in labelled}
        swapped = {title: _score_swapped_labels(run, with_network=False) for title, run in made.items()}
        suggested = {title: _measure_suggestions(run.outcomes) for title, run in made.items()}
        try:
            checked = {title: _score_swapped_labels(run, with_network=True) for title, run in made.items()}
        except DocumentedError as error:
            print(f"\nWithout the network that checks labels: {error}")
            checked = {}
    if scored:
        _print_ranking("Wrong boxes, by weaker settings", scored)
        _print_weights(scored)
    _print_ranking(f"Labels swapped at {_SWAPPED:.0%}, {SEEDS} times, without the network", swapped)
    if checked:
        _print_ranking(f"Labels swapped at {_SWAPPED:.0%}, {SEEDS} times, with the network", checked)
    measure.print_table(
        "Suggested boxes, where the sample of one frame is hidden at a time",
        ("", "hidden", "suggested", "mean IoU with the hidden box", "of at least .5"),
        ((title, *cells) for title, cells in suggested.items()),
    )


def _make_run(frames: Frames, settings: Config, output: Path) -> FinishedRun:
    with contextlib.redirect_stdout(io.StringIO()):  # progress
        return make_run(frames, settings, frames.images, output)


def _score_wrong_boxes(frames: Frames, folder: Path) -> Scored:
    """Score the samples of each weaker setting: each setting is a stratum."""
    tables = []
    for number, (name, parameters) in enumerate(WEAKER.items()):
        run = _make_run(frames, configuration.load_config(parameters=parameters), folder / name)
        truth = read_truth(run, frames.truth)
        assert truth is not None, frames.title
        found = evaluate_run(run, truth).frames
        table = run.outcomes.merge(found[["frame_path", "is_sample", "is_correct"]], on="frame_path")
        doubt = score_doubt(run).set_index("frame_path").loc[table["frame_path"]].reset_index(drop=True)
        kept = table["is_sample"].to_numpy()
        tables.append(_make_table(table, doubt, ~table["is_correct"].to_numpy(bool), number)[kept])
    return _join_tables(tables)


def _score_swapped_labels(run: FinishedRun, *, with_network: bool) -> Scored:
    """Score the samples with some labels swapped: each draw is a stratum."""
    samples, tables = run.outcomes, []
    is_sample = samples["outcome"].isin(SAMPLES).to_numpy()
    for seed in range(SEEDS):
        changed, wrong = _swap_labels(samples, np.flatnonzero(is_sample), np.random.default_rng(seed))
        labels = _check_labels(run, changed) if with_network else None
        doubt = score_doubt(run, changed, labels=labels)
        tables.append(_make_table(changed, doubt, wrong, seed)[is_sample])
    return _join_tables(tables)


def _check_labels(run: FinishedRun, samples: pd.DataFrame) -> pd.DataFrame:
    with contextlib.redirect_stdout(io.StringIO()):  # progress
        return check_labels(run, samples)


def _swap_labels(samples: pd.DataFrame, rows: Any, random: np.random.Generator) -> tuple[pd.DataFrame, Flags]:
    """Give some samples another class of the run; return the samples, and which were changed."""
    chosen = random.choice(rows, max(1, round(_SWAPPED * len(rows))), replace=False)
    names = np.sort(samples["class_name"].to_numpy(dtype=object)[rows])
    classes = samples["class_name"].to_numpy(dtype=object, copy=True)
    for row in chosen:
        classes[row] = random.choice(sorted(set(names) - {classes[row]}))
    wrong = np.zeros(len(samples), bool)
    wrong[chosen] = True
    return samples.assign(class_name=classes), wrong


def _make_table(samples: pd.DataFrame, doubt: pd.DataFrame, wrong: Flags, stratum: int) -> pd.DataFrame:
    known = {"wrong": wrong, "stratum": stratum, "group": samples["video_name"], "score": 1 - samples["hand_score"]}
    return pd.DataFrame(known).join(doubt[["doubt", *(reason.value for reason in Reason)]])


def _join_tables(tables: Sequence[pd.DataFrame]) -> Scored:
    table = pd.concat(tables, ignore_index=True)
    judged = Judged(table["wrong"].to_numpy(bool), table["stratum"].to_numpy(np.int64), table["group"])
    shares = table[[reason.value for reason in Reason]].to_numpy(np.float64)
    return Scored(judged, table["doubt"].to_numpy(np.float64), table["score"].to_numpy(np.float64), shares)


def _join_scored(scored: Sequence[Scored]) -> Scored:
    """Join samples of several data sets, whose strata and groups are different ones."""
    first = np.cumsum([0, *(s.judged.stratum.max() + 1 for s in scored[:-1])])
    judged = Judged(
        np.concatenate([s.judged.wrong for s in scored]),
        np.concatenate([s.judged.stratum + k for s, k in zip(scored, first, strict=True)]),
        pd.concat([s.judged.group for s in scored], ignore_index=True),
    )
    columns = ([getattr(s, name) for s in scored] for name in ("doubt", "score", "shares"))
    return Scored(judged, *(np.concatenate(values) for values in columns))


def _measure_suggestions(samples: pd.DataFrame) -> tuple[object, ...]:
    """Hide each sample in turn; return how many got a suggested box, and how that agrees with the hidden one."""
    samples = samples.reset_index(drop=True)
    hands, found = pairing.get_boxes(samples, "hand"), []
    hidden = np.flatnonzero(samples["outcome"].isin(SAMPLES))
    for row in hidden.tolist():
        is_hidden = samples.index == row
        corners = {name: samples[name].mask(is_hidden) for name in (f"hand_{corner}" for corner in CORNERS)}
        changed = samples.assign(outcome=samples["outcome"].mask(is_hidden, Outcome.NO_HAND.value), **corners)
        _, suggested = score_neighbours(changed)
        found.append(boxes.compute_iou(suggested[row], hands[row]) if np.isfinite(suggested[row]).all() else np.nan)
    iou = pd.Series(found).dropna()
    share = f"{(iou >= CORRECT).mean():.0%}" if len(iou) else "–"
    return len(hidden), len(iou), f"{iou.mean():.2f}" if len(iou) else "–", share


def _print_ranking(title: str, scored: dict[str, Scored]) -> None:
    rows = dict(scored)
    if len(rows) > 1:
        rows["all"] = _join_scored(list(scored.values()))
    measure.print_table(
        title,
        ("", "samples", "wrong", "groups", "AUC of doubt", "AUC of 1 − score", "difference", "first 10 %", "by score"),
        ((name, *_describe_ranking(s)) for name, s in rows.items()),
    )


def _describe_ranking(scored: Scored) -> tuple[object, ...]:
    judged = scored.judged
    auc = [ranking.compute_auc(judged, values) for values in (scored.doubt, scored.score)]
    return (
        len(judged.wrong),
        int(judged.wrong.sum()),
        judged.group.nunique(),
        *(f"{value:.3f}" for value in auc),
        _format_difference(judged, scored.doubt, scored.score),
        *(f"{ranking.compute_precision(judged, values):.0%}" for values in (scored.doubt, scored.score)),
    )


def _format_difference(judged: Judged, a: Floats, b: Floats) -> str:
    """Format by how much the AUC of `a` is larger, with its interval over groups."""
    low, high = resampling.compute_interval(ranking.draw_auc(judged, a) - ranking.draw_auc(judged, b))
    difference = ranking.compute_auc(judged, a) - ranking.compute_auc(judged, b)
    return f"{difference:+.3f} ({low:+.3f}…{high:+.3f})"


def _print_weights(scored: dict[str, Scored]) -> None:
    """Print what other weights give: fitted ones, and none for one reason at a time."""
    joined = _join_scored(list(scored.values()))
    judged, shares = joined.judged, joined.shares
    weights = np.array([reason.weight for reason in Reason])
    variants = {
        "as they are": joined.doubt,
        "all fitted": ranking.combine_shares(shares, ranking.fit_weights(judged, shares)),
        "all fitted, each person held out": ranking.hold_groups_out(judged, shares, ranking.fit_weights),
        "two fitted: low_score, and one for all others": ranking.combine_shares(
            shares, ranking.fit_two_weights(judged, shares)
        ),
        "two fitted, each person held out": ranking.hold_groups_out(judged, shares, ranking.fit_two_weights),
    }
    for number, reason in enumerate(Reason):
        if shares[:, number].any():
            variants[f"without {reason}"] = ranking.combine_shares(
                shares, weights * (np.arange(len(weights)) != number)
            )
    measure.print_table(
        "Wrong boxes, by weights",
        ("weights", "AUC", "minus that of 1 − score", "first 10 %"),
        (
            (
                name,
                f"{ranking.compute_auc(judged, values):.3f}",
                _format_difference(judged, values, joined.score),
                f"{ranking.compute_precision(judged, values):.0%}",
            )
            for name, values in variants.items()
        ),
    )


def main() -> None:
    """Print the cost for a run of imagined frames, each with a sample."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doubting", description="Measure the cost of doubt.")
    parser.add_argument("samples", type=int, nargs="?", default=SAMPLES_TO_TIME, metavar="SAMPLES")
    parser.add_argument("--of", metavar="OUTPUT", help=argparse.SUPPRESS)  # in its own process
    arguments = parser.parse_args()
    if arguments.of:
        print(*_measure_cost(arguments.of))
        return
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):  # progress
            output = _make_large_run(arguments.samples, Path(folder))
        command = [sys.executable, "-m", "benchmarks.doubting", "--of", output]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds, before, peak = map(float, printed.split())
    row = f"{seconds:.1f}", f"{before:.0f}", f"{peak - before:.0f}"
    measure.print_table(
        f"Doubt of {arguments.samples:,} samples",
        ("seconds", "MB with the outcomes", "MB above that"),
        [row],
    )


def _make_large_run(samples: int, folder: Path) -> str:
    labels = write_labels(samples, folder)
    settings = configuration.load_config(parameters={"labels": str(labels), "output": str(folder / "run")})
    source = ListedFolder(str(folder), rows=samples)
    table = frame_table.select_frames(frames_csv.read_frames_csv(labels, source, settings.labels), settings.classes)
    detection_run.detect_frames(table, source, settings, settings.data.output, run_shards)
    all_paired = {"crop_coefficient": 100.0, "wider_coefficient": 100.0}
    outcomes.pair_run(runs.open_run(settings.data.output), configuration.load_config(parameters=all_paired).pairing)
    return settings.data.output


def _measure_cost(output: str) -> tuple[float, float, float]:
    """Return seconds, and the peak memory in MB before and after."""
    run = runs.open_run(output)
    samples = run.outcomes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    begin = time.perf_counter()
    score_doubt(run, samples)
    return time.perf_counter() - begin, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
