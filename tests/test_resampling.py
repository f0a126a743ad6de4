"""Draws of groups and the intervals of what is computed from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detectime import resampling
from detectime.resampling import MOST_GROUPS, compute_interval, draw_groups, number_groups, sum_groups


def test_each_draw_has_as_many_groups_as_there_are() -> None:
    groups = [f"video {k}" for k in range(30)] * 4
    counts = draw_groups(groups)
    assert counts.shape == (1000, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert (counts % 1 == 0).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.15)
    assert counts.var(axis=0) == pytest.approx(29 / 30, abs=0.25)


def test_draws_depend_on_the_number_of_groups_and_the_seed_alone() -> None:
    first = draw_groups(["a", "b", "c"] * 2)
    assert (first == draw_groups([7, 8, 9])).all()
    assert not (first == draw_groups([7, 8, 9], seed=1)).all()


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_groups_give_no_interval(groups: list[str]) -> None:
    counts = draw_groups(groups, draws=5)
    assert counts.shape == (5, len(set(groups)))
    sums = counts @ sum_groups(groups, np.ones((len(groups), 2)))
    with np.errstate(invalid="ignore"):
        assert np.isnan(compute_interval(sums[:, 0] / sums[:, 1])).all()


def test_groups_are_numbered_by_name() -> None:
    numbers, count = number_groups(np.array(["b", "c", "a", "b"], object))
    assert numbers.tolist() == [1, 2, 0, 1]
    assert count == 3


@pytest.mark.parametrize("total", [MOST_GROUPS, MOST_GROUPS + 1, 2 * MOST_GROUPS + 7])
def test_many_groups_become_bundles_of_about_as_many_whole_groups(total: int) -> None:
    order = np.random.default_rng(0).permutation(total)
    numbers, count = number_groups(np.array([f"{k:06d}" for k in order]))
    assert count == MOST_GROUPS
    sizes = np.bincount(numbers, minlength=count)
    assert sizes.min() >= total // MOST_GROUPS
    assert sizes.max() <= total // MOST_GROUPS + 1
    assert (np.diff(numbers[np.argsort(order)]) >= 0).all()  # groups that follow each other by name


def test_intervals_over_bundles_are_as_wide_as_those_over_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.arange(1200)
    values = np.random.default_rng(0).normal(size=1200)

    def measure_width() -> float:
        low, high = compute_interval(draw_groups(groups, 2000) @ sum_groups(groups, values)[:, 0])
        return float(high - low)

    bundled = measure_width()
    monkeypatch.setattr(resampling, "MOST_GROUPS", 1200)
    alone = measure_width()
    assert bundled == pytest.approx(alone, rel=0.12)
    assert alone == pytest.approx(2 * 1.96 * np.sqrt(1200) * values.std(), rel=0.08)


@given(
    values=arrays(
        float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-1e3, 1e3) | st.just(np.nan)
    ),
    level=st.sampled_from([0.5, 0.9, 0.95, 1.0]),
)
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_limits_are_percentiles_of_the_draws_that_measured_anything(values: np.ndarray, level: float) -> None:
    low, high = compute_interval(values, level)
    expected = np.nanquantile(values, [(1 - level) / 2, 1 - (1 - level) / 2], axis=0)
    np.testing.assert_allclose(low, expected[0], atol=1e-9)
    np.testing.assert_allclose(high, expected[1], atol=1e-9)


def test_the_interval_of_clustered_frames_holds_the_truth_as_often_as_it_says() -> None:
    """Frames of a group are alike: an interval over frames would be far too narrow."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 25)
    by_group, by_frame = 0, 0
    for _ in range(200):
        values = (random.random(len(groups)) < np.repeat(random.choice([0.5, 0.9], 40), 25)).astype(float)
        for name in ("group", "frame"):
            drawn = groups if name == "group" else np.arange(len(groups))
            low, high = compute_interval(draw_groups(drawn, 200) @ sum_groups(drawn, values)[:, 0] / len(groups))
            held = low <= 0.7 <= high
            by_group, by_frame = by_group + (held and name == "group"), by_frame + (held and name == "frame")
    assert 0.90 <= by_group / 200 <= 0.985
    assert by_frame / 200 < 0.75


def test_sums_of_groups_add_up_to_those_of_rows() -> None:
    values = np.arange(12.0).reshape(6, 2)
    sums = sum_groups(["b", "a", "b", "c", "a", "b"], values)
    assert sums.tolist() == [[10.0, 12.0], [14.0, 17.0], [6.0, 7.0]]
    assert sum_groups([], np.zeros((0, 3))).shape == (0, 3)
