"""The facts and the verdict of the report: what is wrong with a set, worst first, with its number and what to do."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_runs import copy_run
from hypothesis import given, settings
from hypothesis import strategies as st

from detectime import runs, splits
from detectime.evaluation import Evaluation
from detectime.notes import Note
from detectime.report.summary import SetFacts, count_classes, describe_set
from detectime.report.verdict import MOST, judge_set
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome


@pytest.fixture(scope="module")
def run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return copy_run(sample_run, tmp_path_factory.mktemp("sample") / "run")


def make_facts(rows: list[tuple[str, str, str]], **values: Any) -> SetFacts:
    """Make the facts of wanted frames, each a class, a group and an outcome."""
    table = pd.DataFrame(rows, columns=["class_name", "video_name", "outcome"])
    names = table["class_name"].unique().tolist()
    table["label"] = table["class_name"].map(names.index)
    samples = table[table["outcome"].isin(SAMPLES)]
    known: dict[str, Any] = {
        **{"classes": count_classes(table), "frames": len(table), "samples": len(samples)},
        **{"groups": samples["video_name"].nunique(), "left_out": {}, "turned": 0, "other_hands": 0, "decided": 0},
        **{"finished": "2026-11-26T01:02:03+00:00", "version": "0.3.0", "images": "a", "labels": "b", "exif": "apply"},
    }
    return SetFacts(**known | values)


def make_good(count: int = 60) -> list[tuple[str, str, str]]:
    """Make frames of two classes, each in three groups, of which nothing is to be said."""
    return [(name, f"{name}{k % 3}", "paired") for name in ("ok", "stop") for k in range(count)]


def make_evaluation(value: float, low: float, high: float, wrong: int) -> Evaluation:
    row = {"by": "all", "name": "all", "frames": 100, "groups": 5, "measure": "precision"}
    frames = pd.DataFrame({"is_sample": True, "is_correct": np.arange(100) >= wrong})
    measures = pd.DataFrame([row | {"value": value, "low": low, "high": high}])
    return Evaluation(frames, measures, pd.DataFrame(), pd.DataFrame(), "truth.json", ())


def list_texts(facts: SetFacts, *others: Any) -> list[str]:
    return [finding.text for finding in judge_set(facts, *others)]


def test_the_sample_is_judged(run: FinishedRun) -> None:
    facts = describe_set(run, run.outcomes)
    assert (facts.samples, facts.frames, facts.groups, facts.left_out) == (100, 108, 12, {"no_gesture": 12})
    assert facts.outcomes == {Outcome.PAIRED: 100, Outcome.NO_HAND: 8}
    assert facts.classes["class_name"].tolist() == ["stop", "victory", "mute", "ok", "like", "dislike"]
    assert facts.classes["samples"].sum() == 100
    texts = list_texts(facts)
    assert texts[0] == "All 6 classes have only two groups: enough for train and test, not for a third part"
    assert "7 % of the frames are no_hand: no hand was found near the face in 8 of 108" in texts
    assert "12 no_gesture frames are left out: they are your negatives" in texts


def test_nothing_wrong_is_said_too() -> None:
    (finding,) = judge_set(make_facts(make_good()))
    assert finding.text == "Nothing stands out: each of 2 classes has samples of at least 3 groups"


@pytest.mark.parametrize(
    ("rows", "expected", "remedy"),
    [
        ([("ok", "v", "no_face")], "None of 1 frame gave a sample; 1 is no_face: no face was found", "fallback"),
        ([], "No frame is wanted: the run has no frames of its classes", "`classes`"),
        ([*make_good(), ("like", "v", "no_hand")], "1 of 3 classes has no sample: like", "the reasons"),
        (
            [*make_good(), *[("like", "v", "paired")] * 20],
            "1 of 3 classes has only one group, a video or person (like): it cannot be split",
            "another person",
        ),
        (
            [*make_good(88), *[("ok", "w", "no_face")] * 12],
            "ok: 12 % no_face, no face was found in 12 of 100 frames",
            "`fallback: frame`",
        ),
        ([*make_good(), ("ok", "w", "unreadable")], "1 frame of 121 is not readable", "`retry_failed: true`"),
        (
            [*make_good(), *[("like", f"v{k % 3}", "paired") for k in range(600)]],
            "like has 10 times as many samples as ok (600 and 60)",
            "weight it",
        ),
        (
            [*make_good(), *[("like", "a", "paired")] * 90, *[("like", "b", "paired")] * 10],
            "90 % of the samples of like come from one of its 2 groups",
            "thin",
        ),
        (
            [("ok", f"v{k % 3}", "paired") for k in range(60)],
            "All samples are of one class, ok: a classifier needs two",
            "other classes",
        ),
        (
            [*make_good(), *[("like", f"v{k % 3}", "paired") for k in range(20)]],
            "1 of 3 classes has fewer than 50 samples (like 20)",
            "record more",
        ),
    ],
)
def test_each_fault_is_found_with_its_number(rows: list[tuple[str, str, str]], expected: str, remedy: str) -> None:
    findings = judge_set(make_facts(rows))
    (finding,) = [finding for finding in findings if finding.text == expected]
    assert remedy in finding.remedy


def test_what_the_run_knows_beside_its_outcomes_is_judged() -> None:
    good = make_good()
    assert "12 frames were turned upright by EXIF" in list_texts(make_facts(good, turned=12))[0]
    assert "12 frames are stored rotated" in list_texts(make_facts(good, turned=12, exif="ignore"))[0]
    assert list_texts(make_facts(good, has_stale_files=True))[0].startswith("hands.json is older")
    doubt = pd.DataFrame({"doubt": [0.9, 0.1, np.nan]})
    assert list_texts(make_facts(good), None, doubt) == ["1 frame is doubtful"]
    labels = pd.DataFrame({"contradicts": [True, True, False]})
    assert list_texts(make_facts(good), None, None, labels) == ["2 labels are contradicted by the classifier of crops"]


def test_precision_has_its_interval_and_the_worse_it_is_the_more_severe() -> None:
    facts = make_facts(make_good())
    (bad,) = judge_set(facts, make_evaluation(0.9, 0.85, 0.94, 10))
    assert bad.text == "10 of 100 annotated samples are wrong (90.0 % right, 95 % interval 85 to 94 %)"
    (good,) = judge_set(facts, make_evaluation(1.0, np.nan, np.nan, 0))
    assert good.text == "All 100 annotated samples are right"
    assert good.severity < bad.severity


def test_truth_that_does_not_fit_is_said_instead_of_wrong_samples() -> None:
    found = dataclasses.replace(
        make_evaluation(0.0, 0.0, 0.0, 100), notes=(Note("implausible", 1, "The hands are elsewhere."),)
    )
    (finding,) = judge_set(make_facts(make_good()), found)
    assert finding.text == "The annotations do not seem to fit these frames: The hands are elsewhere"
    assert "correct them" in finding.remedy


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("vw"), st.sampled_from([o.value for o in Outcome])),
        max_size=30,
    )
)
def test_any_set_gets_at_most_five_sentences_worst_first(rows: list[tuple[str, str, str]]) -> None:
    findings = judge_set(make_facts(rows))
    assert 1 <= len(findings) <= MOST
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, reverse=True)
    assert all(0 <= severity <= 1 for severity in severities)
    assert all(finding.text and not finding.text.endswith(".") for finding in findings)


def test_what_people_and_the_split_say_is_judged() -> None:
    facts = make_facts(make_good(), contradictions=2, lacking={"val": ["ok"], "test": ["ok", "stop"]})
    assert list_texts(facts) == [
        "Both classes have no samples in test (ok, stop)",
        "People disagree on 2 frames: the latest decision counts",
    ]


def test_a_split_that_lacks_classes_is_found(run: FinishedRun) -> None:
    splits.split_run(run)
    facts = describe_set(run, run.outcomes)
    assert sorted(facts.lacking) == ["test", "val"]  # two groups of each class cannot be in three parts
    run.store.delete(["split.csv"])
    assert describe_set(run, run.outcomes).lacking == {}


def test_frames_that_cannot_be_read_are_judged() -> None:
    facts = make_facts(make_good())
    (finding,) = judge_set(facts, unseen=Counter({"gone": 3, "changed": 1}))
    assert finding.text == "None of 4 frames that this page was to show can be read: gone"
    (finding,) = judge_set(facts, unseen=Counter({"the file changed since detection": 4}), seen=12)
    assert finding.text == "4 of 16 frames on this page cannot be shown: the file changed since detection"


def test_only_frames_without_a_gesture_are_told() -> None:
    (finding,) = judge_set(make_facts([], left_out={"no_gesture": 12}))
    assert finding.text == "All 12 frames are of no_gesture, and a gesture is wanted"


def test_counts_of_classes_add_up() -> None:
    rows = [*make_good(), ("ok", "w", "no_face"), ("stop", "w", "failed")]
    classes = make_facts(rows).classes
    assert classes["frames"].sum() == len(rows)
    assert (classes[[outcome.value for outcome in Outcome]].sum(axis=1) == classes["frames"]).all()


def test_ten_thousand_classes_are_judged_quickly() -> None:
    facts = make_facts([(f"class {k}", f"v{k}", "paired") for k in range(10_000)])
    assert "All 10,000 classes have only one group" in list_texts(facts)[0]


def test_a_run_of_an_earlier_release_is_described() -> None:
    old = runs.open_run(Path(__file__).parent / "frozen" / "0.2.0" / "default")
    facts = describe_set(old, old.outcomes)
    assert facts.samples == 99
    assert facts.turned == 0


def test_negatives_need_no_hand_and_no_balance() -> None:
    negatives = [("no_gesture", f"n{k % 3}", "no_hand") for k in range(600)]
    (finding,) = judge_set(make_facts([*make_good(), *negatives]))
    assert finding.text.startswith("Nothing stands out")


def test_other_hands_are_told() -> None:
    assert list_texts(make_facts(make_good(), other_hands=12)) == [
        "12 of 120 samples have another hand near a face: it may be meant"
    ]


def test_boxes_are_praised_alone_where_no_classes_are_annotated() -> None:
    found = dataclasses.replace(make_evaluation(1.0, np.nan, np.nan, 0), compares_classes=False)
    (text,) = list_texts(make_facts(make_good()), found)
    assert text == (
        "The boxes of all 100 annotated samples are right; the annotations name no classes, so labels were not compared"
    )


def test_a_score_that_drops_faces_is_named() -> None:
    rows = [*make_good(88), *[("ok", "w", "no_face")] * 12]
    (finding,) = judge_set(make_facts(rows, min_face_score=0.999))
    assert "no face with a score of 0.999 was found in 12 of 100 frames" in finding.text
    assert finding.remedy.startswith("lower `min_face_score`")


def test_long_names_are_shortened() -> None:
    facts = make_facts([("x" * 300, f"v{k % 3}", "paired") for k in range(60)])
    assert all(len(text) < 200 for text in list_texts(facts))
