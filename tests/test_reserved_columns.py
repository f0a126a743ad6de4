"""Columns of the labels may have any name: pairing, counts, exports, figures and evaluation keep them unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import LABELS, make_detection_row, make_detections_table
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from detectime import evaluation, pairing, schema
from detectime.config import PairingConfig
from detectime.exports import hands_json, outcomes_csv
from detectime.report import charts
from detectime.schema import RESERVED_COLUMNS
from detectime.storage import run_tables
from detectime.storage import store as stores

TABLE = {"frame_path", "video_name", "frame_id", "class_name"}
ODD = [
    *("row", "x1", "y2", "iou", "sample", "samples", "frames", "videos", "wanted_in_csv", "width_in_csv", "index"),
    *("level_0", "label_in_csv", "label_in_csv_2", "size", "shape", "loc", "T", "values", "", " ", "count", "class"),
    *("face", "hand", "bbox", "square", "score", "detector", "all", "ä", "a,b", 'a"b', "a\nb", "__index_level_0__"),
]
names = st.one_of(st.sampled_from(ODD), st.text(max_size=12).filter(lambda name: "\x00" not in name and _is_text(name)))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def frames_with(columns: dict[str, list[str]]) -> pd.DataFrame:
    table = pd.DataFrame(columns, index=range(4)) if columns else pd.DataFrame(index=range(4))
    table.insert(0, "frame_path", [f"{k}.jpg" for k in range(4)])
    return table.assign(
        video_name="v",
        frame_id=range(4),
        class_name=["ok", "mute", "ok", "stop"],
        label=[LABELS[name] for name in ("ok", "mute", "ok", "stop")],
        on_disk=True,
        wanted=[True, True, True, False],
    )


FOUND = make_detections_table(
    make_detection_row("0.jpg", [(100, 100, 150, 150)], [(160, 100, 200, 150)]),
    make_detection_row("1.jpg", [(100, 100, 150, 150)], [(160, 100, 200, 150)]),
    make_detection_row("2.jpg"),
    make_detection_row("3.jpg", outcome="missing"),
)
TRUTH = pd.DataFrame([("0.jpg", 160.0, 100.0, 200.0, 150.0)], columns=["frame_path", "x1", "y1", "x2", "y2"])


@effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.lists(names, unique=True, max_size=6), data=st.data())
def test_columns_of_any_name_go_through_unchanged(tmp_path: Path, extra: list[str], data: st.DataObject) -> None:
    extra = [name for name in extra if name not in RESERVED_COLUMNS | TABLE]
    values = {name: data.draw(st.lists(st.sampled_from(["1", "b", ""]), min_size=4, max_size=4)) for name in extra}
    table = frames_with(values)
    samples = pairing.pair_frames(table, FOUND, PairingConfig())
    assert samples[table.columns].equals(table)
    assert samples["outcome"].tolist() == ["paired", "paired", "no_face", "left_out"]
    assert samples.columns.is_unique

    counts = pairing.count_outcomes(samples)
    assert counts.loc["all"].to_dict() == {"paired": 2, "no_face": 1, "left_out": 1, "frames": 4}
    score = evaluation.score_samples(samples, TRUTH)
    assert score.loc["all", ["frames", "correct"]].tolist() == [1, 1]
    assert evaluation.compute_best_iou(samples, TRUTH).tolist()[:1] == [1.0]

    hands_json.write_hands_json(samples, tmp_path / "hands.json")
    assert [row["frame_path"] for row in json.loads((tmp_path / "hands.json").read_text())] == ["0.jpg", "1.jpg"]
    outcomes_csv.write_outcomes_csv(samples, tmp_path / "outcomes.csv")
    store = stores.open_store(tmp_path)
    run_tables.write_outcomes(store, samples)
    again = run_tables.read_outcomes(store)
    assert again is not None
    assert again.columns.tolist() == samples.columns.tolist()
    assert all(again[name].tolist() == table[name].tolist() for name in extra)


@pytest.mark.parametrize("extra", [[], ODD], ids=["none", "odd ones"])
def test_figures_accept_any_columns(extra: list[str]) -> None:
    samples = pairing.pair_frames(frames_with({name: ["a"] * 4 for name in extra}), FOUND, PairingConfig())
    for figure in (charts.plot_outcomes(samples), charts.plot_distributions(samples), charts.plot_classes(samples)):
        assert figure.axes
        plt.close(figure)


def test_the_columns_that_pairing_adds_are_the_reserved_ones() -> None:
    table = frames_with({})
    added = set(pairing.pair_frames(table, FOUND, PairingConfig()).columns) - TABLE
    assert added | {"stamp", schema.TRUTH, schema.TRUTH_SIZE} == set(RESERVED_COLUMNS)


@pytest.mark.parametrize("unknown", ["new_kind", "", np.nan, None])
@pytest.mark.parametrize(
    "use",
    [pairing.count_outcomes, charts.plot_outcomes, charts.plot_distributions],
    ids=["counts", "bars", "distributions"],
)
def test_an_unknown_outcome_is_an_error(use: Any, unknown: Any) -> None:
    """Frames with an unknown outcome must not silently vanish from a count."""
    samples = pairing.pair_frames(frames_with({}), FOUND, PairingConfig())
    samples["outcome"] = samples["outcome"].astype("object")
    samples.loc[2, "outcome"] = unknown
    with pytest.raises(ValueError, match="unknown outcomes"):
        use(samples)


def test_every_outcome_has_a_colour_and_a_sentence_of_its_own() -> None:
    kinds = list(schema.Outcome)
    assert len({kind.colour for kind in kinds}) == len({kind.sentence for kind in kinds}) == len(kinds)
    assert [kind.value for kind in kinds if kind.is_sample] == list(schema.SAMPLES)
    assert schema.SAMPLES == ("paired", "fallback", "corrected")
