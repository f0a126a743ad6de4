"""Trials of settings: a trial gives what the run gives, decisions included, and reads the run only when told to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import FROZEN, make_detection, make_detection_row, make_detections_table, make_frame_table
from finished_runs import make_run
from hypothesis import given, settings
from hypothesis import strategies as st
from imagined_runs import make_imagined_run, make_rows

from detectime import corrections, outcomes, pairing
from detectime.config import PairingConfig, load_config
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, format_time, merge_decisions
from detectime.judgements import Judgement, judge_frames
from detectime.runs import FinishedRun, open_run
from detectime.widgets.trial import DecidedFrames, Trial

SETTINGS = (
    PairingConfig(),
    PairingConfig(crop_coefficient=0.7, min_hand_score=0.5),
    PairingConfig(fallback="wider", wider_coefficient=4.0, min_face_score=0.9),
    PairingConfig(rule="2021", crop_coefficient=2.5, fallback="frame", enlarged_classes=("ok", "mute")),
    PairingConfig(crop_coefficient=0.3, fallback="frame", wider_coefficient=0.4, crop_hand_coefficient=0.6),
)


def check_trial(trial: Trial, run: FinishedRun, *others: PairingConfig) -> None:
    """Check that a trial gives the table of the run, whatever the settings, the first of them again at the end."""
    for each in (*SETTINGS, run.pairing, *others, SETTINGS[0]):
        expected = run.pair_frames(each).samples
        pd.testing.assert_frame_equal(trial.pair(each), expected, check_exact=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """Return a run with hands of the whole frame, of some classes and with a limit."""
    parameters: dict[str, Any] = {"fallback": "frame", "classes": "like, ok, mute, stop", "limit": 24}
    return make_run(tmp_path_factory.mktemp("run") / "out", **parameters)


@pytest.fixture
def run(original: FinishedRun, tmp_path: Path) -> FinishedRun:
    shutil.copytree(str(original.store), tmp_path / "out")
    return open_run(tmp_path / "out")


def decide(run: FinishedRun, *judgements: Judgement, by: str = "anna") -> None:
    DecisionLog(run.store, by).append(*judge_frames(run, judgements, by))


def list_paths(run: FinishedRun, outcomes_of: Iterable[str] = ("paired",)) -> list[str]:
    samples = run.outcomes
    paths: list[str] = samples.loc[samples["outcome"].isin(outcomes_of), "frame_path"].tolist()
    return paths


def test_a_trial_of_a_real_run_gives_what_the_run_gives(run: FinishedRun) -> None:
    trial = Trial(run)
    assert (trial.saved["outcome"] == "left_out").any()
    assert not trial.needs_pairing
    check_trial(trial, run)


def test_the_saved_outcomes_are_those_that_were_written(run: FinishedRun) -> None:
    outcomes.pair_run(run, SETTINGS[1])
    pd.testing.assert_frame_equal(Trial(run).saved, run.outcomes)


def test_a_trial_of_an_imagined_run_gives_what_the_run_gives(tmp_path: Path) -> None:
    imagined = make_imagined_run(tmp_path, make_rows(300, ("ok", "mute", "like")), classes=("ok", "mute"), limit=150)
    check_trial(Trial(imagined), imagined, PairingConfig(crop_coefficient=50.0))


@pytest.mark.parametrize("name", ["default", "cascade", "averaged"])
@pytest.mark.parametrize("paired", [False, True])
def test_a_trial_of_an_earlier_release_gives_what_the_run_gives(name: str, paired: bool, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FROZEN / name, tmp_path / name))
    if paired:
        outcomes.pair_run(open_run(folder))
    old = open_run(folder)
    trial = Trial(old)
    assert trial.needs_pairing == (not paired)
    assert trial.new_decisions == frozenset()
    pd.testing.assert_frame_equal(trial.saved, old.outcomes)
    check_trial(trial, old)
    first = str(trial.saved["frame_path"].iloc[0])
    decide(old, Judgement(first, "box", box=(10, 20, 30, 40)), Judgement(first, "label", class_name="mute"))
    trial.refresh()
    assert trial.new_decisions == {first}
    check_trial(trial, old)


def test_decisions_are_applied_under_all_settings(run: FinishedRun) -> None:
    a, b, c, d, e = list_paths(run)[:5]
    left_out = list_paths(run, ["left_out"])
    decide(
        run,
        Judgement(a, "box", box=(10, 20, 30, 40)),
        Judgement(b, "reject"),
        Judgement(c, "label", class_name="mute"),
        Judgement(d, "label", class_name="no_gesture"),  # of no wanted class
        Judgement(left_out[0], "label", class_name="ok"),
        Judgement(left_out[-1], "box", box=(10, 20, 30, 40)),
    )
    decide(run, Judgement(a, "keep"), Judgement(e, "keep"), by="ben")
    stranger = Decision(format_time(), "ben", "reject", "no/such.jpg", None, None, "ok")
    DecisionLog(run.store, "ben").append(stranger)
    trial = Trial(run)
    assert trial.needs_pairing
    assert trial.saved["decision"].notna().sum() >= 5
    pd.testing.assert_frame_equal(trial.saved, run.pair_frames(run.pairing).samples)
    assert trial.new_decisions == set(trial.saved.loc[trial.saved["decision"].notna(), "frame_path"])
    check_trial(trial, run)


def test_decisions_are_read_when_the_trial_is_refreshed(run: FinishedRun) -> None:
    trial = Trial(run)
    first, second = list_paths(run)[:2]
    decide(run, Judgement(first, "reject"))
    assert trial.pair(run.pairing)["decision"].isna().all()
    trial.refresh()
    assert trial.needs_pairing
    assert trial.new_decisions == {first}
    outcomes.pair_run(run)
    trial.refresh()
    assert not trial.needs_pairing
    assert trial.new_decisions == frozenset()
    assert trial.saved.set_index("frame_path").loc[first, "outcome"] == "rejected"
    decide(run, Judgement(first, "undo"), Judgement(second, "keep"))
    trial.refresh()
    assert trial.new_decisions == {first, second}
    assert trial.saved.set_index("frame_path").loc[first, "outcome"] == "paired"
    check_trial(trial, run)


def test_only_decisions_about_unknown_frames_change_nothing(run: FinishedRun) -> None:
    DecisionLog(run.store, "ben").append(Decision(format_time(), "ben", "reject", "no/such.jpg", None, None, "ok"))
    trial = Trial(run)
    assert trial.needs_pairing
    assert trial.new_decisions == frozenset()
    check_trial(trial, run)


def test_decisions_about_left_out_frames_alone(run: FinishedRun) -> None:
    decide(run, Judgement(list_paths(run, ["left_out"])[0], "reject"))
    check_trial(Trial(run), run)


def test_a_run_without_its_outcomes_is_paired(run: FinishedRun) -> None:
    Path(str(run.store), "outcomes.parquet").unlink()
    trial = Trial(run)
    assert trial.needs_pairing
    pd.testing.assert_frame_equal(trial.saved, run.pair_frames(run.pairing).samples)


def test_a_result_that_is_changed_changes_no_other(run: FinishedRun) -> None:
    trial = Trial(run)
    expected = trial.pair(SETTINGS[0])
    spoilt = trial.pair(SETTINGS[0])
    for name in spoilt.columns:
        spoilt.loc[:, name] = spoilt[name].iloc[::-1].to_numpy()
    pd.testing.assert_frame_equal(trial.pair(SETTINGS[0]), expected)
    pd.testing.assert_frame_equal(run.frames, open_run(str(run.store)).frames)


# -- any decisions, any detections

CORNERS = [(100.0, 100.0, 150.0, 150.0), (160.0, 100.0, 200.0, 150.0), (165.0, 100.0, 205.0, 150.0)]
CORNERS += [(300.0, 300.0, 340.0, 360.0), (-20.0, 90.0, 700.0, 500.0)]
hands = st.builds(
    make_detection,
    st.sampled_from(CORNERS[:4]),
    st.sampled_from(["mediapipe", "hagrid", "another"]),
    st.sampled_from(["near", "frame", "fallback"]),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
detected_rows = st.builds(
    lambda faces, hands, content, outcome, orientation, size: (
        make_detection_row("", faces, hands, size, outcome)
        | {"content": content, "orientation": orientation if outcome == "ok" else None}
    ),
    st.lists(st.sampled_from(CORNERS[:4]), max_size=2),
    st.lists(hands, max_size=4),
    st.sampled_from([None, "1-a"]),
    st.sampled_from(["ok", "ok", "ok", "missing"]),
    st.sampled_from([None, 1, 6]),
    st.sampled_from([(640, 480), (320, 400)]),
)
made_decisions = st.builds(
    lambda action, frame, by, second, judged, box, bbox, name, content, pixels: Decision(
        f"2027-01-02T03:04:{second:02}.000000+00:00",
        by,
        action,
        f"{frame}.jpg",
        content,
        judged,
        "ok",
        box if action in ("box", "choose_hand") else None,
        bbox if action == "box" else None,
        name if action == "label" else None,
        pixels=pixels,
    ),
    st.sampled_from(["keep", "reject", "choose_hand", "box", "label", "undo"]),
    st.integers(0, 9),
    st.sampled_from(["anna", "ben"]),
    st.integers(0, 59),
    st.none() | st.sampled_from(CORNERS),
    st.sampled_from(CORNERS),
    st.none() | st.sampled_from(CORNERS),
    st.sampled_from(["ok", "mute", "no_gesture", "wave"]),
    st.sampled_from([None, "1-a", "2-b"]),
    st.sampled_from(["upright", "stored"]),
)
pairing_settings = st.builds(
    PairingConfig,
    rule=st.sampled_from(pairing.RULES),
    crop_coefficient=st.sampled_from([0.5, 1.5, 3.0]),
    fallback=st.sampled_from(["none", "wider", "frame"]),
    wider_coefficient=st.sampled_from([0.4, 2.5, 10.0]),
    min_face_score=st.sampled_from([None, 0.5, 0.8]),
    min_hand_score=st.sampled_from([None, 0.3, 0.8]),
    enlarged_classes=st.sampled_from([("mute",), (), ("ok", "mute")]),
)


@settings(deadline=None, max_examples=30)
@given(
    found=st.lists(detected_rows, min_size=8, max_size=8),
    kinds=st.lists(st.sampled_from([("ok", True), ("mute", True), ("no_gesture", False)]), min_size=8, max_size=8),
    order=st.permutations(range(8)),
    decisions=st.lists(made_decisions, max_size=12),
    configs=st.lists(pairing_settings, min_size=2, max_size=2),
)
def test_decisions_on_some_rows_are_those_on_all_rows(
    found: list[dict[str, Any]],
    kinds: list[tuple[str, bool]],
    order: list[int],
    decisions: list[Decision],
    configs: list[PairingConfig],
) -> None:
    config = load_config()
    frames = make_frame_table(
        {"frame_path": f"{k}.jpg", "class_name": name, "wanted": wanted} for k, (name, wanted) in enumerate(kinds)
    )
    detections = make_detections_table(*(found[k] | {"frame_path": f"{k}.jpg"} for k in order))
    merged = merge_decisions(decisions)
    trial = DecidedFrames(frames, detections, merged, config)
    for each in configs:
        expected = corrections.apply_decisions(frames, detections, merged, each, config).samples
        pd.testing.assert_frame_equal(trial.pair(each), expected, check_exact=True)
