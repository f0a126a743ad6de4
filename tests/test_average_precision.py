"""Average precision: parity with pycocotools, and draws of groups."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skips import need_extra

from detectime import resampling
from detectime.evaluation import average_precision
from detectime.evaluation.average_precision import FrameBoxes, Matches, Ranking, accumulate_ap, draw_ap


def make_ranking(seed: int, frames: int = 40, most: int = 4, decimals: int = 2) -> Ranking:
    """Make annotated boxes, and found ones that are near them, doubled, or elsewhere, with many equal scores."""
    random = np.random.default_rng(seed)
    frame = np.repeat(np.arange(frames), random.integers(0, most, frames))
    corner = random.uniform(0, 200, (len(frame), 2))
    annotated = FrameBoxes(frame, np.hstack([corner, corner + random.uniform(20, 80, (len(frame), 2))]))
    copies = np.repeat(np.arange(len(frame)), random.integers(0, 3, len(frame)))
    near = annotated.corners[copies] + random.normal(0, 4, (len(copies), 4))
    elsewhere = random.integers(0, frames, len(frame) // 3)
    others = random.uniform(0, 200, (len(elsewhere), 2))
    corners = np.vstack([near, np.hstack([others, others + 50])])
    order = random.permutation(len(corners))
    found = FrameBoxes(np.concatenate([frame[copies], elsewhere])[order], corners[order])
    return Ranking(found, random.random(len(order)).round(decimals), annotated, frames)


def evaluate_with_pycocotools(ranking: Ranking, frames: Any = None) -> Any:
    """Return pycocotools' evaluation of some frames; None: all of them."""

    def list_annotations(boxes: FrameBoxes) -> list[dict[str, Any]]:
        return [
            {"image_id": int(frame), "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
            for frame, (x1, y1, x2, y2) in zip(boxes.frame, boxes.corners.tolist(), strict=True)
        ]

    truth = COCO()
    images = [{"id": k} for k in range(ranking.frames)]
    boxes = [
        box | {"id": k + 1, "area": box["bbox"][2] * box["bbox"][3]}
        for k, box in enumerate(list_annotations(ranking.annotated))
    ]
    truth.dataset = {"images": images, "categories": [{"id": 1, "name": "hand"}], "annotations": boxes}
    results = [
        box | {"score": float(score)}
        for box, score in zip(list_annotations(ranking.found), ranking.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.imgIds = list(range(ranking.frames)) if frames is None else sorted(frames)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def get_ap(evaluation: Any) -> list[float]:
    """Return AP50 and AP, NaN without annotated boxes, which pycocotools says by -1."""
    return [np.nan if evaluation.stats[k] < 0 else evaluation.stats[k] for k in (1, 0)]


def select_some(ranking: Ranking, seed: int) -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(seed).random(ranking.frames) < 0.4)


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools(seed: int) -> None:
    ranking = make_ranking(seed, decimals=1 + seed % 3)
    assert accumulate_ap(ranking.matches).tolist() == pytest.approx(
        get_ap(evaluate_with_pycocotools(ranking)), abs=1e-12
    )
    chosen = select_some(ranking, seed)
    expected = get_ap(evaluate_with_pycocotools(ranking, chosen))
    assert accumulate_ap(ranking.matches.select_frames(chosen)).tolist() == pytest.approx(expected, abs=1e-12)


def test_every_match_is_that_of_pycocotools() -> None:
    ranking = make_ranking(3, most=6)
    evaluation = evaluate_with_pycocotools(ranking)
    expected = np.zeros((len(ranking.scores), 10), bool)
    for image in evaluation.evalImgs[: ranking.frames]:  # the first size of boxes is all
        if image is not None and image["dtIds"]:
            expected[np.array(image["dtIds"]) - 1] = image["dtMatches"].T > 0
    order = np.lexsort((ranking.found.frame, -ranking.scores))
    assert expected.any()
    assert (ranking.matches.is_match == expected[order]).all()
    assert (ranking.matches.frame == ranking.found.frame[order]).all()


def test_boxes_of_a_frame_beyond_the_best_hundred_do_not_count() -> None:
    random = np.random.default_rng(0)
    corners = np.tile([10.0, 10, 50, 50], (150, 1)) + random.normal(0, 3, (150, 4))
    one = FrameBoxes(np.zeros(1, np.int64), np.array([[10.0, 10, 50, 50]]))
    ranking = Ranking(FrameBoxes(np.zeros(150, np.int64), corners), random.random(150), one, 1)
    assert len(ranking.matches.frame) == 100
    assert accumulate_ap(ranking.matches).tolist() == pytest.approx(get_ap(evaluate_with_pycocotools(ranking)))


def test_nothing_annotated_and_nothing_found() -> None:
    none = FrameBoxes(np.zeros(0, np.int64), np.zeros((0, 4)))
    one = FrameBoxes(np.zeros(1, np.int64), np.array([[0.0, 0, 9, 9]]))
    cases = {
        "found": Ranking(one, np.ones(1), none, 1),
        "annotated": Ranking(none, np.zeros(0), one, 1),
        "neither": Ranking(none, np.zeros(0), none, 1),
    }
    values = {name: accumulate_ap(ranking.matches) for name, ranking in cases.items()}
    np.testing.assert_equal(
        {name: value.tolist() for name, value in values.items()},
        {"found": [np.nan] * 2, "annotated": [0.0] * 2, "neither": [np.nan] * 2},
    )
    if average_precision.has_hotcoco():
        for name, ranking in cases.items():
            np.testing.assert_equal(ranking.compute_ap({"all": np.arange(1)})["all"], values[name])


@pytest.mark.extra
@pytest.mark.parametrize("seed", range(6))
def test_hotcoco_equals_pycocotools(seed: int) -> None:
    need_extra("hotcoco")
    ranking = make_ranking(seed, decimals=1 + seed % 3)
    slices = {("all", "all"): np.arange(ranking.frames), ("some", "few"): select_some(ranking, seed)}
    for key, value in ranking.compute_ap(slices).items():
        expected = get_ap(evaluate_with_pycocotools(ranking, slices[key]))
        assert value.tolist() == pytest.approx(expected, abs=1e-12), key


@pytest.mark.extra
def test_hotcoco_takes_boxes_that_a_person_drew_first() -> None:
    need_extra("hotcoco")
    ranking = make_ranking(0)
    scores = np.where(np.arange(len(ranking.scores)) % 7 == 0, np.inf, ranking.scores)
    drawn = Ranking(ranking.found, scores, ranking.annotated, ranking.frames)
    ones = Ranking(ranking.found, np.minimum(scores, 2), ranking.annotated, ranking.frames)
    (value,) = drawn.compute_ap({"all": np.arange(drawn.frames)}).values()
    assert value.tolist() == pytest.approx(get_ap(evaluate_with_pycocotools(ones)), abs=1e-12)
    assert value.tolist() == pytest.approx(accumulate_ap(drawn.matches).tolist(), abs=1e-12)


@pytest.mark.extra
def test_hotcoco_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    need_extra("hotcoco")
    make_ranking(0).compute_ap({"all": np.arange(40)})
    assert capfd.readouterr() == ("", "")


def repeat_frames(ranking: Ranking, times: np.ndarray) -> Ranking:
    """Return a ranking in which each frame is there several times, as frames of their own."""

    def repeat(boxes: FrameBoxes) -> tuple[np.ndarray, np.ndarray]:
        rows = np.repeat(np.arange(len(boxes.frame)), times[boxes.frame])
        copy = np.concatenate([np.arange(count) for count in times[boxes.frame]]) if len(rows) else rows
        return rows, np.cumsum(times)[boxes.frame[rows]] - times[boxes.frame[rows]] + copy.astype(np.int64)

    (found, frames), (annotated, true_frames) = repeat(ranking.found), repeat(ranking.annotated)
    return Ranking(
        FrameBoxes(frames, ranking.found.corners[found]),
        ranking.scores[found],
        FrameBoxes(true_frames, ranking.annotated.corners[annotated]),
        int(times.sum()),
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_is_the_average_precision_of_its_frames(seed: int) -> None:
    ranking = make_ranking(seed, decimals=8)  # scores that are not equal: only their order is the same in both
    numbers = np.arange(ranking.frames) % 9
    counts = np.vstack([np.ones(9), resampling.draw_groups(np.arange(9), 4)])
    draws = draw_ap(ranking.matches, numbers, counts)
    for k, count in enumerate(counts):
        repeated = repeat_frames(ranking, count[numbers].astype(int))
        assert draws[k].tolist() == pytest.approx(accumulate_ap(repeated.matches).tolist(), abs=1e-9)
    assert draws[0].tolist() == pytest.approx(get_ap(evaluate_with_pycocotools(ranking)), abs=1e-12)


def test_draws_of_many_boxes_are_as_wide_as_with_a_step_per_box(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = make_ranking(0, frames=1500)
    numbers, count = resampling.number_groups(np.arange(1500) // 10)
    counts = resampling.draw_groups(np.arange(count), 200)
    assert len(ranking.matches.frame) > 2000
    quick = draw_ap(ranking.matches, numbers, counts)
    assert draw_ap(ranking.matches, numbers, np.ones((1, count)))[0].tolist() == pytest.approx(
        accumulate_ap(ranking.matches).tolist(), abs=1e-12
    )
    monkeypatch.setattr(average_precision, "_MOST_BOXES", 10**6)
    exact = draw_ap(ranking.matches, numbers, counts)
    limits, expected = np.array(resampling.compute_interval(quick)), np.array(resampling.compute_interval(exact))
    assert (np.abs(limits - expected) < 0.05 * (expected[1] - expected[0])).all()


def test_draws_without_annotated_boxes_are_nan() -> None:
    matches = Matches(np.array([0, 1]), np.repeat([[True], [False]], 10, axis=1), np.array([1, 0]))
    draws = draw_ap(matches, np.array([0, 1]), np.array([[2.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_equal(draws, [[1.0, 1.0], [np.nan, np.nan]])
    assert np.isnan(draw_ap(matches, np.array([0, 0]), np.full((3, 1), np.nan))).all()
