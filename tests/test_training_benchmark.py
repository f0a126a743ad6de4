"""The benchmark of training: shares over all frames, intervals over people, splits, and one small measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from skips import need_extra

from benchmarks.data import Frames
from benchmarks.training_scores import (
    FEWEST_PEOPLE,
    Estimate,
    estimate_accuracy,
    estimate_difference,
    limit_frames,
)
from benchmarks.worlds import World
from detectime import config as configuration
from detectime import paths

PEOPLE = list("abcdef")


def make_results(right_by_person: dict[str, float], frames: int = 20, samples: float = 1.0) -> pd.DataFrame:
    """Return frames of people: a share of each one's frames is right, and a share of all has a sample."""
    rows = [
        (f"{person}/{k}.jpg", person, k < samples * frames, float(k < round(share * frames)))
        for person, share in right_by_person.items()
        for k in range(frames)
    ]
    return pd.DataFrame(rows, columns=["frame_path", "person", "has_sample", "right"])


def test_frames_without_a_sample_count_as_wrong() -> None:
    """Who finds only the easy half of the hands is right on those, and not on all."""
    results = make_results(dict.fromkeys(PEOPLE, 0.5), samples=0.5)
    assert estimate_accuracy(results) == Estimate(0.5, 0.5, 0.5)
    assert estimate_accuracy(results, of_samples=True) == Estimate(1.0, 1.0, 1.0)
    every = make_results(dict.fromkeys(PEOPLE, 0.6))
    assert estimate_difference(every, results).value == pytest.approx(0.1)


def test_the_interval_counts_people() -> None:
    """One to five of six people, in 95 % of a binomial; more frames of the same people change nothing."""
    shares = {person: float(k % 2) for k, person in enumerate(PEOPLE)}
    few, many = (estimate_accuracy(make_results(shares, frames)) for frames in (5, 50))
    assert few == many
    assert few.high - few.low == pytest.approx(4 / 6)


def test_few_people_have_no_interval() -> None:
    results = make_results(dict.fromkeys(PEOPLE[: FEWEST_PEOPLE - 1], 0.5))
    assert estimate_accuracy(results).value == 0.5
    assert estimate_accuracy(results).format() == "0.50"
    assert np.isnan(estimate_difference(results, results).low)


def test_a_constant_gain_is_certain_however_much_people_differ() -> None:
    shares = {person: 0.1 + 0.1 * k for k, person in enumerate(PEOPLE)}
    worse, better = make_results(shares), make_results({person: share + 0.2 for person, share in shares.items()})
    assert estimate_difference(better, worse) == pytest.approx((0.2, 0.2, 0.2))
    assert estimate_difference(better, worse).format("+") == "+0.20 (+0.20…+0.20)"
    assert estimate_difference(worse, worse).format("+") == "+0.00 (+0.00…+0.00)"


def test_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="different frames"):
        estimate_difference(make_results({"a": 1.0}), make_results({"b": 1.0}))


def test_without_samples_nothing_is_known_of_them() -> None:
    results = make_results(dict.fromkeys(PEOPLE, 0.0), samples=0.0)
    assert estimate_accuracy(results) == Estimate(0.0, 0.0, 0.0)
    assert estimate_accuracy(results, of_samples=True).format() == "–"


def test_frames_are_limited_per_person_and_class() -> None:
    frames = pd.DataFrame({"person": ["a"] * 12 + ["b"] * 3, "class_name": ["ok"] * 9 + ["stop"] * 6})
    limited = limit_frames(frames, 3)
    assert limited.groupby(["person", "class_name"]).size().tolist() == [3, 3, 3]
    assert limited.index[:3].tolist() == [0, 4, 8]


# -- training


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """Return the module, which needs torch."""
    for module in ("torch", "torchvision", "sklearn"):
        need_extra(module)
    from benchmarks import training as module

    return module


@pytest.fixture(scope="module")
def sample_world() -> World:
    """Return three frames of each of eight videos of the sample."""
    frames = Frames.read_contest(paths.SAMPLE, configuration.load_config())
    table = frames.table[frames.table["class_name"].isin(["stop", "victory", "like", "dislike"])]
    return World(replace(frames, table=table[table.groupby("video_name").cumcount() % 3 == 1]))


@pytest.mark.extra
def test_each_frame_is_tested_once_and_people_are_not_torn_apart(training: ModuleType, sample_world: World) -> None:
    frames = sample_world.frames.table.rename(columns={"video_name": "person"}).reset_index(drop=True)
    rows = np.arange(len(frames))
    people = frames["person"].to_numpy()
    for seed in range(5):
        for split in (training.split_randomly, training.split_by_person):
            trials = split(frames, rows, 2, seed)
            assert sorted(np.concatenate([trial.test for trial in trials])) == rows.tolist()
            for trial in trials:
                assert set(frames["class_name"].iloc[trial.train]) == set(frames["class_name"])
                shared = set(people[trial.train]) & set(people[trial.test])
                assert bool(shared) == (split is training.split_randomly)


@pytest.mark.extra
@pytest.mark.slow
def test_a_measurement_of_the_sample(
    hagrid_weights: Path, training: ModuleType, sample_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Truth has a picture of each frame; a frame whose hand is hidden from a classifier is wrong."""
    material = training.read_material([sample_world], (training.WHOLE, training.REFERENCE, training.TRUTH))
    assert material.views[training.TRUTH].has_sample.all()
    assert material.views[training.WHOLE].crops.shape[1:] == (224, 224, 3)
    assert {(training.POINTS, training.WHOLE), (training.LINEAR, training.WHOLE)} & set(material.boxed) == {
        (training.LINEAR, training.WHOLE)
    }
    view = material.views[training.REFERENCE]
    hidden = int(np.flatnonzero(view.has_sample)[0])
    view.has_sample[hidden] = False

    half = np.arange(len(material.frames)) % 2
    trial = training.Trial(np.flatnonzero(half), np.flatnonzero(half == 0))
    both = [trial, training.Trial(trial.test, trial.train)]
    for model in (training.LINEAR, training.POINTS):
        results = training.run_trials(material, model, training.REFERENCE, lambda _: both, 2)
        assert results["frame_path"].tolist() == material.frames["frame_path"].tolist()
        assert results.loc[hidden, ["has_sample", "right"]].tolist() == [False, 0.0]
        assert results["right"].mean() > 0.7  # of four classes, each video in both halves
        assert results[["seed_0", "seed_1"]].mean(axis=1).tolist() == results["right"].tolist()
    training.print_splits(material, "The sample", [(training.LINEAR, training.REFERENCE)], 2, 1)
    printed = capsys.readouterr().out
    assert f"### The sample, in 2 folds: {len(material.frames)} frames of 8 people" in printed
    assert "training (" not in printed
