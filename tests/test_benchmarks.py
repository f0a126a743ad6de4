"""Benchmarks: scores by frame, intervals over people, folds, and the list of wrong frames."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from benchmarks import against_worlds, quality, worlds, wrong_frames
from benchmarks.data import Frames, make_worker
from benchmarks.worlds import World, compare_variants, score_variant, split_people, summarize_variant
from detectime import config as configuration
from detectime import paths

PEOPLE = list("abcdef")


def make_scores(correct_by_person: dict[str, float], frames: int = 20) -> pd.DataFrame:
    """Return frames of people, of each of whom a share has a correct sample and the others have none."""
    rows = [
        {"person": person, "frame_path": f"{person}/{k}.jpg", "iou": 0.8 if k < share * frames else np.nan}
        for person, share in correct_by_person.items()
        for k in range(frames)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def sample_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return six frames of the sample, two of each of three videos; the truth of the first lies elsewhere."""
    folder = tmp_path_factory.mktemp("world")
    table = pd.read_csv(paths.SAMPLE / "train.csv")
    table = table[table["video_name"].isin(["dislike_01", "like_01", "mute_01"])].groupby("video_name").tail(2)
    table.to_csv(folder / "train.csv", index=False)
    truth = json.loads((paths.SAMPLE / "truth.json").read_text())
    kept = {name: truth[name] for name in table["frame_path"]}
    kept[table["frame_path"].iloc[0]]["hands"] = [[0, 0, 30, 30]]
    (folder / "truth.json").write_text(json.dumps(kept))
    (folder / "TRAIN_DATA").symlink_to(paths.SAMPLE / "TRAIN_DATA")
    return World(Frames.read_contest(folder, configuration.load_config()))


# -- intervals over people


def test_measures_are_those_of_the_frames() -> None:
    frames = make_scores({"a": 1.0, "b": 0.5})
    frames.loc[0, "iou"] = 0.3  # a wrong sample
    summary = summarize_variant(frames)["value"]
    assert summary["correct"] == pytest.approx(29 / 40)
    assert summary["precision"] == pytest.approx(29 / 30)
    assert summary["mean_iou"] == pytest.approx((29 * 0.8 + 0.3) / 30)


def test_the_interval_counts_people_rather_than_frames() -> None:
    """Ten times as many frames of the same people tell no more about other people; more people do."""
    shares = {person: k % 2 for k, person in enumerate(PEOPLE)}
    few, many = (summarize_variant(make_scores(shares, frames)) for frames in (20, 200))
    pd.testing.assert_frame_equal(few, many)
    people = summarize_variant(
        make_scores({f"{person}{k}": share for person, share in shares.items() for k in range(9)})
    )
    width = (few["high"] - few["low"])["correct"]
    assert width == pytest.approx(4 / 6)  # one to five of six draws, in 95 % of a binomial
    assert (people["high"] - people["low"])["correct"] < width / 2


def test_intervals_are_the_same_in_each_call() -> None:
    frames = make_scores({person: k / 5 for k, person in enumerate(PEOPLE)})
    pd.testing.assert_frame_equal(summarize_variant(frames), summarize_variant(frames))


def test_one_person_has_no_interval() -> None:
    summary = summarize_variant(make_scores({"a": 0.5}))
    assert summary["value"]["correct"] == 0.5
    assert summary[["low", "high"]].isna().all(axis=None)


def test_variants_are_compared_on_the_same_people() -> None:
    """A constant gain is certain, however much people differ."""
    shares = {person: 0.1 + 0.15 * k for k, person in enumerate(PEOPLE)}
    worse, better = make_scores(shares), make_scores({person: share + 0.1 for person, share in shares.items()})
    compared = compare_variants(worse, better).loc["correct"]
    assert compared[["difference", "low", "high"]].tolist() == pytest.approx([0.1] * 3)
    alone = summarize_variant(worse).loc["correct"]
    assert alone["high"] - alone["low"] > 0.3


def test_variants_on_other_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="different frames"):
        compare_variants(make_scores({"a": 1.0}), make_scores({"b": 1.0}))


def test_folds_hold_out_each_person_as_a_whole() -> None:
    people = pd.Series(["b", "a", "b", "c"])
    folds = dict(split_people(people))
    assert list(folds) == ["a", "b", "c"]
    assert folds["b"].tolist() == [True, False, True, False]
    assert np.sum(list(folds.values()), axis=0).tolist() == [1] * 4


# -- frames of a world


def test_a_variant_is_scored_by_frame(sample_world: World) -> None:
    frames = score_variant(sample_world, {})
    assert frames["person"].nunique() == 3
    assert frames["iou"].iloc[0] == 0
    assert (frames["iou"].iloc[1:] > 0.5).all()
    assert frames["face_size"].between(20, 400).all()
    assert frames["best_hand"].eq("mediapipe/near").all()
    assert (frames["best_iou"] >= frames["iou"]).all()


def test_detection_runs_once_per_setting(sample_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = score_variant(sample_world, {"crop_coefficient": 2.0})
    assert before["iou"].notna().any()

    def refuse(_: object) -> None:
        raise AssertionError("detection runs again")

    monkeypatch.setattr(worlds, "make_worker", refuse)
    again = score_variant(sample_world, {"fallback": "frame"})
    assert again["frame_path"].tolist() == before["frame_path"].tolist()
    with pytest.raises(AssertionError, match="runs again"):
        score_variant(sample_world, {"face_confidence": 0.7})


@pytest.fixture
def webcam_frames(shared: Path, tmp_path: Path) -> Callable[[list[str]], Frames]:
    """Return a function that makes a data set of some webcam frames."""
    source = shared / "frames" / "webcam"
    if not source.is_dir():
        pytest.skip("the shared folder lacks frames/webcam")

    def make(names: list[str]) -> Frames:
        table = pd.read_csv(source / "train.csv")
        table[table["frame_path"].isin(names)].to_csv(tmp_path / "train.csv", index=False)
        (tmp_path / "truth.json").write_bytes((source / "truth.json").read_bytes())
        (tmp_path / "TRAIN_DATA").symlink_to(source / "TRAIN_DATA")
        return Frames.read_contest(tmp_path, configuration.load_config())

    return make


def test_one_detection_serves_every_fallback(webcam_frames: Callable[[list[str]], Frames]) -> None:
    """The samples are those of a run that searches the whole frame only if its fallback says so."""
    frames = webcam_frames(["p01/0000.jpg", "p04/0001.jpg", "p04/0002.jpg", "p06/0011.jpg"])
    world = World(frames)
    for fallback in ("none", "frame"):
        settings = configuration.load_config(parameters={"fallback": fallback})
        detection = dataclasses.replace(settings.detection, whole_frame=fallback == "frame")
        expected = frames.make_samples(make_worker(detection), frames.images, settings)
        pd.testing.assert_frame_equal(world.make_samples(settings), expected)


# -- wrong frames


def test_wrong_frames_are_listed_and_drawn(sample_world: World, tmp_path: Path) -> None:
    scored = score_variant(sample_world, {})
    wrong = wrong_frames.select_wrong(scored)
    assert wrong["frame_path"].tolist() == scored["frame_path"].iloc[:1].tolist()
    (sheet,) = wrong_frames.write_sheets(sample_world, "a, b: c", wrong, tmp_path)
    image = cv2.imread(str(sheet))
    assert image is not None
    green = (image[..., 1] > 150) & (image[..., 2] < 100) & (image[..., 0] < 100)
    red = (image[..., 2] > 180) & (image[..., 1] < 100) & (image[..., 0] < 100)
    assert green.sum() > 50
    assert red.sum() > 50
    table = pd.read_csv(wrong_frames.write_table(wrong.assign(variant="a, b: c"), tmp_path))
    assert table.loc[0, ["variant", "outcome", "best_hand"]].tolist() == ["a, b: c", "paired", "mediapipe/near"]
    assert wrong_frames.write_sheets(sample_world, "a, b: c", wrong.iloc[:0], tmp_path) == []
    assert not sheet.exists()  # of the earlier call


@pytest.mark.slow
@pytest.mark.large
def test_the_notebook_of_a_tree_gives_the_samples_of_that_tree(sample_world: World, tmp_path: Path) -> None:
    """This tree is compared with another one by its notebook, so with itself it must be equal."""
    samples = against_worlds.run_commit(paths.CONFIG.parent, sample_world, {"fallback": "frame"}, tmp_path / "run", {})
    theirs = worlds.score_frames(sample_world, samples)
    compared = compare_variants(theirs, score_variant(sample_world, {"fallback": "frame"}))
    assert compared["a"].tolist() == pytest.approx(compared["b"].tolist(), abs=1e-3)  # the csv is rounded
    assert compared.loc["correct", "a"] == pytest.approx(5 / 6)


def test_what_is_compared_has_a_name_on_both_sides() -> None:
    for own, other in against_worlds.PAIRS:
        assert own in quality.VARIANTS
        assert other in against_worlds.THEIRS
