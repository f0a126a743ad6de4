"""Runs: the same result for any interruption and any shards, and errors for folders that cannot be resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import SHARED
from faults import (
    FINISHED,
    ImaginaryFolder,
    InstantEngine,
    list_notes,
    list_stored_files,
    make_config,
    make_row,
    name_frames,
    read_manifest,
    refuse_work,
    tabulate_frames,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from detectime import outcomes, pairing, paths, runs
from detectime.detection import run, shards
from detectime.detection.engines import local
from detectime.detection.engines.contract import PEAK_MEMORY
from detectime.detection.manifest import RunError
from detectime.detectors import registry
from detectime.detectors.registry import Chosen, find_used_keys
from detectime.errors import ConfigError
from detectime.exports import hands_json
from detectime.labels import frame_table, frames_csv
from detectime.schema import DETECTIONS, PAIRING_COLUMNS, TableVersionError
from detectime.sources.folder import FolderSource
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.folder import FolderStore
from detectime.storage.store import StoreError

pytestmark = pytest.mark.slow

CONTEST = SHARED / "frames" / "contest"


NOWHERE = ImaginaryFolder("/nowhere")
NAMES = name_frames(23)


def detect(table: pd.DataFrame, output: Path, engine: Any = None, **parameters: Any) -> pa.Table:
    """Run without detectors; return the stored table with all columns, in the order of the returned one."""
    parameters = {"workers": 2, "save_per_num_images": 5, **parameters}
    found = run.detect_frames(table, NOWHERE, make_config(**parameters), str(output), engine or InstantEngine())
    table_of_run = shards.read_detections(stores.open_store(str(output)), None)
    assert len(table_of_run) == len(found)
    table_of_run = table_of_run.take(pc.index_in(found["frame_path"], table_of_run["frame_path"]))
    assert table_of_run.select(PAIRING_COLUMNS).equals(found)
    return table_of_run


def make_expected(frame_paths: list[str]) -> pa.Table:
    """Make the detections table of an `InstantEngine`."""
    rows = [make_row(name) | {"stamp": f"stamp of {name}"} for name in frame_paths]
    return pa.Table.from_pylist(rows, schema=DETECTIONS)


def encode_hands(table: pd.DataFrame, found: pa.Table, **parameters: Any) -> bytes:
    """Pair, and return the bytes of ``hands.json``."""
    samples = pairing.pair_frames(table, found, make_config(**parameters).pairing)
    return b"".join(hands_json.encode_samples(samples))


# -- the same result


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_shard_size_and_order_change_nothing(tmp_path: Path, size: int, seed: int | None) -> None:
    engine = InstantEngine(seed=seed)
    found = detect(tabulate_frames(NAMES), tmp_path, engine, save_per_num_images=size)
    assert found.equals(make_expected(NAMES))
    assert pq.read_table(tmp_path / "detections.parquet").equals(found)
    assert found.schema.equals(DETECTIONS)
    assert sorted(engine.frames) == sorted(NAMES)
    assert max(map(len, engine.asked)) == min(size, 12)  # two workers share what is less than two shards
    assert list_stored_files(tmp_path) == FINISHED


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("size", [1, 4])
def test_a_repeatedly_interrupted_run_repeats_and_loses_nothing(tmp_path: Path, size: int, seed: int | None) -> None:
    asked: list[str] = []
    for _ in range(len(NAMES)):
        engine = InstantEngine(stop_after=2, seed=seed)
        try:
            found = detect(tabulate_frames(NAMES), tmp_path, engine, save_per_num_images=size)
        except KeyboardInterrupt:
            asked += [name for shard in engine.asked[:2] for name in shard]
            assert read_manifest(tmp_path)["finished"] is None
            assert "detections.parquet" not in list_stored_files(tmp_path)
        else:
            asked += engine.frames
            break
    assert found.equals(make_expected(NAMES))
    assert sorted(asked) == sorted(NAMES)
    assert list_stored_files(tmp_path) == FINISHED


@settings(max_examples=12, deadline=None)
@given(
    loses=st.sets(st.sampled_from(NAMES)),
    knows=st.lists(st.booleans(), min_size=1),
    size=st.integers(1, 30),
    seed=st.none() | st.integers(0, 3),
)
def test_a_frame_that_kills_its_worker_is_isolated(
    tmp_path_factory: pytest.TempPathFactory, loses: set[str], knows: list[bool], size: int, seed: int | None
) -> None:
    answers = iter(knows * 1000)
    engine = InstantEngine(loses=loses, knows=lambda: next(answers), seed=seed)
    output = tmp_path_factory.mktemp("run")
    found = detect(tabulate_frames(NAMES), output, engine, save_per_num_images=size)
    assert found["frame_path"].to_pylist() == NAMES
    for one in found.to_pylist():
        if one["frame_path"] in loses:
            assert (one["outcome"], one["error"]) == ("failed", "the worker died")
            assert engine.frames.count(one["frame_path"]) >= 3  # the cause might have been another frame
        else:
            assert one == make_expected([one["frame_path"]]).to_pylist()[0]
    assert len(engine.asked) <= len(NAMES) + len(loses) * (3 + 2 * 23)
    shutil.rmtree(output)


def test_a_large_table_is_split_into_shards_lazily(tmp_path: Path) -> None:
    waiting: list[int] = []

    def engine(shards: Any, *rest: Any) -> Any:
        for result in InstantEngine()(shards, *rest):
            waiting.append(len(shards))
            yield result

    detect(tabulate_frames(name_frames(100)), tmp_path, engine, save_per_num_images=10)
    assert waiting == list(reversed(range(10)))


# -- growth


def test_a_run_grows_by_new_frames_and_keeps_its_rows(tmp_path: Path) -> None:
    few, many = NAMES[:9], NAMES
    detect(tabulate_frames(few), tmp_path)
    engine = InstantEngine()
    assert detect(tabulate_frames(many), tmp_path, engine).equals(make_expected(many))  # a longer csv
    assert sorted(engine.frames) == sorted(many[9:])
    # Back to a shorter csv: its frames come first; the others stay, sorted by name.
    short = detect(tabulate_frames(few[::-1]), tmp_path, refuse_work)
    assert short.equals(make_expected(few[::-1] + sorted(set(many) - set(few))))
    assert pq.read_table(tmp_path / "detections.parquet").num_rows == len(many)


def test_a_reordered_table_needs_no_work_and_sets_the_order(tmp_path: Path) -> None:
    shuffled = [str(name) for name in np.random.default_rng(5).permutation(NAMES)]
    detect(tabulate_frames(NAMES), tmp_path / "one")
    assert detect(tabulate_frames(shuffled), tmp_path / "one", refuse_work).equals(make_expected(shuffled))
    uninterrupted = detect(tabulate_frames(shuffled), tmp_path / "two")
    table = tabulate_frames(shuffled)
    again = detect(table, tmp_path / "one", refuse_work)
    assert encode_hands(table, again) == encode_hands(table, uninterrupted)


def test_limit_and_classes_grow_the_run(tmp_path: Path) -> None:
    table = tabulate_frames(NAMES).assign(class_name=["stop", "ok"] * 11 + ["mute"])
    asked = []
    for classes, limit in ((["stop"], 3), (["stop"], 8), (["stop", "ok"], 8), (["stop", "ok", "mute"], None)):
        engine = InstantEngine()
        found = detect(frame_table.select_frames(table, classes, limit), tmp_path, engine)
        asked.append(sorted(engine.frames))
    stop, ok = NAMES[:22:2], NAMES[1:22:2]
    assert asked[0] == sorted(stop[:3])
    assert asked[1] == sorted(stop[3:8])
    assert asked[2] == sorted(ok[:4])
    assert sorted(name for part in asked for name in part) == sorted(NAMES)
    assert found.equals(make_expected(NAMES))


def test_a_run_interrupted_while_growing_is_not_finished(tmp_path: Path) -> None:
    detect(tabulate_frames(NAMES[:9]), tmp_path)
    started = read_manifest(tmp_path)["started"]
    assert read_manifest(tmp_path)["finished"] is not None
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=1))
    assert read_manifest(tmp_path)["finished"] is None
    assert detect(tabulate_frames(NAMES), tmp_path).equals(make_expected(NAMES))
    assert read_manifest(tmp_path)["finished"] is not None
    assert read_manifest(tmp_path)["started"] == started


def test_more_than_a_million_shards_keep_their_order(tmp_path: Path) -> None:
    # The last row of a frame counts, so new shards must sort after existing ones.
    detect(tabulate_frames(NAMES[:4]), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=1, missing=NAMES))
    (shard,) = (tmp_path / "shards").iterdir()
    digits = len(shard.stem)
    shard.rename(shard.with_stem(str(10 ** min(digits, 6) - 1).zfill(digits)))
    engine = InstantEngine(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, engine, retry_failed=True, save_per_num_images=1)
    assert {*engine.frames[:2]} == {*NAMES[4:6]}
    engine = InstantEngine()
    assert detect(tabulate_frames(NAMES), tmp_path, engine, retry_failed=True).equals(make_expected(NAMES))
    assert not {*NAMES[:6]} & {*engine.frames}


# -- failed frames


def test_retry_failed_processes_only_failed_frames(tmp_path: Path) -> None:
    bad = {NAMES[0]: "missing", NAMES[7]: "unreadable", NAMES[22]: "failed"}

    def engine(shards: Any, *rest: Any) -> Any:
        for shard, result in InstantEngine()(shards, *rest):
            rows = [
                {**one, "outcome": bad.get(one["frame_path"], "ok"), "error": "e" if one["frame_path"] in bad else None}
                for one in result.to_pylist()
            ]
            yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)

    found = detect(tabulate_frames(NAMES), tmp_path, engine)
    assert [one["frame_path"] for one in found.to_pylist() if one["outcome"] != "ok"] == list(bad)
    assert read_manifest(tmp_path)["outcomes"] == {"ok": 20, "missing": 1, "unreadable": 1, "failed": 1}
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(found)
    # A failed frame that is no longer wanted is not retried.
    table = tabulate_frames(NAMES)
    table.loc[22, "wanted"] = False
    again = InstantEngine()
    found = detect(table, tmp_path, again, retry_failed=True)
    assert again.frames == [NAMES[0], NAMES[7]]
    assert read_manifest(tmp_path)["outcomes"] == {"ok": 22, "missing": 0, "unreadable": 0, "failed": 1}
    assert found.slice(0, 22).equals(make_expected(NAMES[:22]))
    assert detect(table, tmp_path, refuse_work, retry_failed=True).equals(found)
    assert detect(tabulate_frames(NAMES), tmp_path, retry_failed=True).equals(make_expected(NAMES))


def test_retry_failed_uses_the_last_rows_before_compaction_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=2, missing=NAMES))
    again = InstantEngine(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, again, retry_failed=True)
    assert again.asked[0] == tuple(NAMES[:5])
    found = detect(tabulate_frames(NAMES), tmp_path)
    outcomes = found["outcome"].to_pylist()
    assert outcomes == ["ok"] * 5 + ["missing"] * 5 + ["ok"] * 13


# -- compaction


@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_a_run_killed_during_compaction_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    def delete(store: FolderStore, doomed: list[str]) -> None:
        assert len(doomed) == 5
        for name in doomed[:deleted]:
            (store.folder / name).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "delete", delete)
        with pytest.raises(KeyboardInterrupt):
            detect(tabulate_frames(NAMES), tmp_path)
    assert read_manifest(tmp_path)["finished"] is None
    assert len(list((tmp_path / "shards").iterdir())) == 5 - deleted
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(make_expected(NAMES))
    assert list_stored_files(tmp_path) == FINISHED
    assert read_manifest(tmp_path)["finished"] is not None


def test_a_finished_run_needs_no_engine(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path)
    before = read_manifest(tmp_path)
    content = (tmp_path / "detections.parquet").stat()
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(found)
    assert read_manifest(tmp_path) == before
    assert (tmp_path / "detections.parquet").stat().st_mtime_ns == content.st_mtime_ns  # not written again


def test_a_table_without_wanted_frames(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES).assign(wanted=False), tmp_path, refuse_work)
    assert found.num_rows == 0
    assert found.schema.equals(DETECTIONS)


# -- runs that cannot be resumed


OTHER: dict[str, Any] = {
    "face_confidence": 0.61,
    "face_nms": 0.31,
    "face_max_resolution": 320,
    "face_first_resolution": 320,
    "near_coefficient": 0.0,
    "hand_confidence": 0.41,
    "search_coefficient": 2.5,
    "search": "frame",
    "whole_frame": True,
    "landmark_margin": 0.2,
    "reduced_decoding": False,
    "exif": "ignore",
    "max_pixels": 1000,
}


@pytest.mark.parametrize("changed", [{key: value} for key, value in OTHER.items()] + [OTHER], ids=lambda c: "+".join(c))
def test_another_detection_configuration_is_rejected_by_key(tmp_path: Path, changed: dict[str, Any]) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError) as refusal:
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, **changed)
    own = dataclasses.asdict(make_config().detection) | {"whole_frame": False}  # the meaning of null here
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    for key, value in own.items():
        named = f"detection.{key}: the run has {value!r}, now it is {changed.get(key)!r}" in str(refusal.value)
        assert named == (key in changed)
    assert (tmp_path / "run.json").read_bytes() == before
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(found)


def test_every_key_of_the_default_detectors_is_covered_above() -> None:
    # For the keys of other detectors see test_binding, for `quality` test_quality.
    elsewhere = {"quality", "detector_type", "hand_detector", "detector_settings", "device", "batch"}
    assert set(find_used_keys(make_config().detection)) == {*OTHER, *elsewhere}


@pytest.mark.parametrize(
    "changed",
    [
        {"crop_coefficient": 3.0, "crop_hand_coefficient": 2.0, "enlarged_classes": ["ok"]},
        {"classes": ["stop"]},
        {"limit": 3},
        {"workers": 7, "save_per_num_images": 1, "frame_timeout": 1.0},
        {"retry_failed": True},
        {"device": "cpu", "batch": 4},
        {"fallback": "wider", "wider_coefficient": 3.0},
        {"samples_per_class": 1},
        {"images": "elsewhere", "labels": "other.csv", "source": "folder"},
    ],
    ids=lambda c: "+".join(c),
)
def test_every_other_key_may_change(tmp_path: Path, changed: dict[str, Any]) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path)
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work, **changed).equals(found)


def test_a_run_of_an_earlier_version_keeps_its_settings(tmp_path: Path) -> None:
    detect(tabulate_frames(NAMES[:9]), tmp_path)
    before = read_manifest(tmp_path) | {"detectime": "0.2.0"}
    before["configuration"]["detection"] |= {"hand_detector": "mediapipe", "search_coefficient": 2.0}
    for key in ("near_coefficient", "reduced_decoding", "whole_frame", "batch"):
        del before["configuration"]["detection"][key]
    (tmp_path / "run.json").write_text(json.dumps(before))
    for changed, was in (({"search_coefficient": 3.0}, "2.0"), ({"near_coefficient": 2.0}, "1.5")):
        (key,) = changed
        with pytest.raises(RunError, match=rf"detection\.{key}: the run has {was}, now it is"):
            detect(tabulate_frames(NAMES), tmp_path, refuse_work, **changed)
    assert json.loads((tmp_path / "run.json").read_text()) == before
    assert detect(tabulate_frames(NAMES), tmp_path).equals(make_expected(NAMES))
    kept = read_manifest(tmp_path)["configuration"]["detection"]
    assert (kept["search_coefficient"], kept["near_coefficient"], kept["whole_frame"]) == (2.0, 1.5, False)
    (note,) = list_notes(tmp_path, "resumed")
    assert "detection.search_coefficient = 2.0" in note.text


@pytest.mark.parametrize("fallback", ["none", "wider"])
def test_a_run_with_whole_frames_keeps_them(tmp_path: Path, fallback: str) -> None:
    detect(tabulate_frames(NAMES[:9]), tmp_path, fallback="frame")
    used: list[bool | None] = []

    def engine(shards: Any, chosen: Chosen, *rest: Any) -> Any:
        used.append(chosen.config.whole_frame)
        yield from InstantEngine()(shards, chosen, *rest)

    found = detect(tabulate_frames(NAMES), tmp_path, engine, fallback=fallback)
    assert found.equals(make_expected(NAMES))
    assert used == [True]
    kept = read_manifest(tmp_path)["configuration"]
    assert (kept["detection"]["whole_frame"], kept["pairing"]["fallback"]) == (True, fallback)
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work, fallback="frame").equals(found)


@pytest.mark.parametrize(
    ("fallback", "whole_frame", "resolved"),
    [("none", None, False), ("wider", None, False), ("frame", None, True), ("none", True, True), ("frame", True, True)],
)
def test_whole_frame_follows_from_the_fallback(
    fallback: str, whole_frame: bool | None, resolved: bool, tmp_path: Path
) -> None:
    detect(tabulate_frames(NAMES), tmp_path, fallback=fallback, whole_frame=whole_frame)
    assert read_manifest(tmp_path)["configuration"]["detection"]["whole_frame"] is resolved


def test_whole_frame_cannot_be_switched_off(tmp_path: Path) -> None:
    detect(tabulate_frames(NAMES), tmp_path, fallback="frame")
    with pytest.raises(RunError, match=r"whole_frame: the run has True, now it is False"):
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, whole_frame=False)


def test_whole_frame_cannot_be_switched_on_by_a_fallback(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path, fallback="wider")
    with pytest.raises(RunError, match=r"whole_frame: the run has False.*; pairing\.fallback = 'frame' is"):
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, fallback="frame")
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(found)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("hagird", "there is no detector 'hagird'; did you mean 'hagrid'? accepted: mediapipe, hagrid, mask_rcnn"),
        ("mediapipe,yolo", "there is no detector 'yolo'; accepted: mediapipe, hagrid, mask_rcnn"),
        ("mediapipe,hagrid,mediapipe", "mediapipe: named more than once; accepted: each once"),
    ],
)
def test_invalid_hand_detectors_are_rejected_before_any_work(tmp_path: Path, names: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, hand_detector=names)
    assert "detection.hand_detector" in str(refusal.value)
    assert words in str(refusal.value)
    assert list_stored_files(tmp_path) == set()


def test_the_vocabulary_may_change(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path)
    config = dataclasses.replace(make_config(), labels={"no_gesture": 0, "wave": 9})
    again = run.detect_frames(tabulate_frames(NAMES), NOWHERE, config, str(tmp_path), refuse_work)
    assert again.equals(found.select(PAIRING_COLUMNS))
    assert read_manifest(tmp_path)["configuration"]["labels"] == {"no_gesture": 0, "wave": 9}


def test_other_weights_are_rejected_by_name_if_frames_are_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path / "run")
    recorded = read_manifest(tmp_path / "run")["detectors"]
    other = tmp_path / "retinaface_mobilenet025.onnx"
    other.write_bytes(b"trained a little longer")
    replaced = dataclasses.replace(registry.FACES["retinaface"], find_weights=lambda _: [other])
    monkeypatch.setitem(registry.FACES, "retinaface", replaced)
    words = r"weights of retinaface: retinaface_mobilenet025\.onnx \('[0-9a-f]{64}' then, '[0-9a-f]{64}' now\)"
    with pytest.raises(RunError, match=words) as refusal:
        detect(tabulate_frames([*NAMES, "video/more.jpg"]), tmp_path / "run", refuse_work)
    assert str(refusal.value).count(" then, ") == 1
    # A finished run stays usable, with a note.
    assert detect(tabulate_frames(NAMES), tmp_path / "run", refuse_work).equals(found)
    (note,) = list_notes(tmp_path / "run", "detectors")
    assert re.search(words, note.text)
    assert read_manifest(tmp_path / "run")["detectors"] == recorded


def test_another_detector_is_rejected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(tabulate_frames(NAMES), tmp_path)
    second = dataclasses.replace(registry.HANDS["mediapipe"], name="second")
    monkeypatch.setitem(registry.HANDS, "second", second)
    with pytest.raises(RunError) as refusal:
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, hand_detector="mediapipe,second")
    words = "detection.hand_detector: the run has ['mediapipe'], now it is ['mediapipe', 'second']"
    assert words in str(refusal.value)
    another = dataclasses.replace(registry.FACES["retinaface"], name="another")
    monkeypatch.setitem(registry.FACES, "another", another)
    with pytest.raises(RunError, match=r"detection\.detector_type: the run has 'retinaface', now it is 'another'"):
        detect(tabulate_frames(NAMES), tmp_path, refuse_work, detector_type="another")


def test_a_run_without_any_existing_frame_is_rejected_before_it_starts(tmp_path: Path) -> None:
    table = tabulate_frames(NAMES, there=[])
    with pytest.raises(RunError, match="/nowhere: not one of the 23 wanted frames exists") as refusal:
        detect(table, tmp_path, refuse_work)
    assert NAMES[0] in str(refusal.value)
    assert list_stored_files(tmp_path) == set()
    # A frame that exists but is not wanted does not count.
    table = tabulate_frames(NAMES, there=NAMES[:1])
    table.loc[0, "wanted"] = False
    with pytest.raises(RunError, match="not one of the 22 wanted frames"):
        detect(table, tmp_path, refuse_work)
    assert list_stored_files(tmp_path) == set()


def test_one_existing_frame_is_enough(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES, there=NAMES[5:6]), tmp_path, InstantEngine(missing=set(NAMES) - {NAMES[5]}))
    assert found["outcome"].to_pylist().count("missing") == 22


def test_a_finished_run_needs_no_frames(tmp_path: Path) -> None:
    found = detect(tabulate_frames(NAMES), tmp_path)
    assert detect(tabulate_frames(NAMES, there=[]), tmp_path, refuse_work).equals(found)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b"null",
        b'"run"',
        b"{}",
        b'{"configuration": {"detection": null}}',
        b'{"detectime": ',
    ],
)
def test_a_broken_manifest_is_rejected_and_kept(tmp_path: Path, content: bytes) -> None:
    detect(tabulate_frames(NAMES), tmp_path)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=re.escape(f"{tmp_path}/run.json: this is not the manifest of a run")) as refusal:
        detect(tabulate_frames(NAMES), tmp_path, refuse_work)
    assert "another `output`" in str(refusal.value)
    assert (tmp_path / "run.json").read_bytes() == content


@pytest.mark.parametrize("finished", [True, False])
def test_a_missing_manifest_is_an_error(tmp_path: Path, finished: bool) -> None:
    if finished:
        detect(tabulate_frames(NAMES), tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=1))
    (tmp_path / "run.json").unlink()
    before = list_stored_files(tmp_path)
    with pytest.raises(RunError, match=r"there are detections, but no run\.json"):
        detect(tabulate_frames(NAMES), tmp_path, refuse_work)
    assert list_stored_files(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False])
def test_damaged_detections_are_set_aside_and_made_again(tmp_path: Path, finished: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=2))
    if finished:
        detect(tabulate_frames(NAMES), tmp_path)
    damaged = tmp_path / "detections.parquet" if finished else sorted((tmp_path / "shards").iterdir())[0]
    content = damaged.read_bytes()[:-20]
    damaged.write_bytes(content)
    engine = InstantEngine()
    assert detect(tabulate_frames(NAMES), tmp_path, engine).equals(make_expected(NAMES))
    assert sorted(engine.frames) == sorted(NAMES if finished else NAMES[:5] + NAMES[10:])
    name = str(damaged.relative_to(tmp_path))
    assert list_stored_files(tmp_path) == FINISHED | {f"{name}.damaged"}
    assert (tmp_path / f"{name}.damaged").read_bytes() == content
    (note,) = list_notes(tmp_path, "damaged")
    assert (note.count, note.example) == (1, name)
    assert f"{name}.damaged" in note.text
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work).equals(make_expected(NAMES))
    assert list_notes(tmp_path, "damaged") == [note]  # an event stays on record


@pytest.mark.parametrize("column", ["frame_path", "faces.list.element.x1"])
def test_intact_rows_of_a_damaged_file_are_saved(column: str, tmp_path: Path) -> None:
    detect(tabulate_frames(NAMES), tmp_path)
    file = tmp_path / "detections.parquet"
    pq.write_table(pq.read_table(file), file, row_group_size=4, write_page_checksum=True)  # as in a large run
    damage(file, column, group=2)
    engine = InstantEngine()
    assert detect(tabulate_frames(NAMES), tmp_path, engine).equals(make_expected(NAMES))
    assert sorted(engine.frames) == sorted(NAMES[8:12])
    (note,) = list_notes(tmp_path, "damaged")
    assert "19 of its rows were saved" in note.text


def damage(file: Path, column: str, group: int) -> None:
    """Change the last byte of a column in a row group."""
    rows = pq.ParquetFile(file).metadata.row_group(group)
    (chunk,) = (rows.column(k) for k in range(rows.num_columns) if rows.column(k).path_in_schema == column)
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content = bytearray(file.read_bytes())
    content[first + chunk.total_compressed_size - 1] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("finished", [True, False])
def test_a_file_other_than_a_detections_table_is_named_and_kept(tmp_path: Path, finished: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=2))
    if finished:
        detect(tabulate_frames(NAMES), tmp_path)
    other = tmp_path / "detections.parquet" if finished else sorted((tmp_path / "shards").iterdir())[0]
    pq.write_table(pa.table({"frame_path": ["a"]}), other)
    before = list_stored_files(tmp_path)
    with pytest.raises(TableVersionError, match=re.escape(str(other))) as refusal:
        detect(tabulate_frames(NAMES), tmp_path, refuse_work)
    assert "move the file elsewhere" in str(refusal.value)
    assert list_stored_files(tmp_path) == before
    other.rename(tmp_path.parent / "elsewhere.parquet")  # the remedy in the message
    assert detect(tabulate_frames(NAMES), tmp_path).equals(make_expected(NAMES))


def test_other_files_beside_the_shards_are_ignored(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(NAMES), tmp_path, InstantEngine(stop_after=2))
    others = {"shards/.DS_Store", "shards/desktop.ini", "shards/000001 (1).parquet"}
    for name in others:
        (tmp_path / name).write_bytes(b"\x00")
    assert detect(tabulate_frames(NAMES), tmp_path).equals(make_expected(NAMES))
    assert list_stored_files(tmp_path) == FINISHED | others


def test_a_second_run_in_the_same_folder_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FolderStore.lock
    monkeypatch.setattr(FolderStore, "lock", lambda store: lock(store, 0.3))  # see test_store for the patience
    going, enough = threading.Event(), threading.Event()
    results: list[pa.Table] = []

    def engine(shards: Any, *rest: Any) -> Any:
        for result in InstantEngine()(shards, *rest):
            going.set()
            assert enough.wait(20)
            yield result

    first = threading.Thread(target=lambda: results.append(detect(tabulate_frames(NAMES), tmp_path, engine)))
    first.start()
    assert going.wait(20)
    try:
        before = list_stored_files(tmp_path)
        with pytest.raises(StoreError, match="another run is writing to this folder"):
            detect(tabulate_frames(NAMES), tmp_path, refuse_work)
        assert list_stored_files(tmp_path) == before
    finally:
        enough.set()
        first.join()
    assert results[0].equals(make_expected(NAMES))


# -- the full disk


def test_a_run_that_filled_the_disk_resumes_when_there_is_space(small_disk: Path, tmp_path: Path) -> None:
    many = name_frames(2000)
    table = tabulate_frames(many)
    uninterrupted = detect(table, tmp_path / "uninterrupted", save_per_num_images=20)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600 * 1024))
    output = small_disk / "run"
    with pytest.raises(StoreError) as refusal:
        detect(table, output, save_per_num_images=20)
    assert "No space left on device" in str(refusal.value)
    assert "free disk space" in str(refusal.value)
    assert re.search(r"run/shards/0\d+\.parquet: cannot be written", str(refusal.value))
    done = faults.count_saved_rows(output)
    assert 0 < done < 2000
    ballast.unlink()
    engine = InstantEngine()
    found = detect(table, output, engine, save_per_num_images=200)
    assert len(engine.frames) == 2000 - done
    assert found.equals(uninterrupted)
    assert encode_hands(table, found) == encode_hands(table, uninterrupted)
    assert not [name for name in list_stored_files(output) if "partial" in name]


def test_a_disk_full_at_compaction_loses_nothing(small_disk: Path) -> None:
    output = small_disk / "run"

    def engine(*arguments: Any) -> Any:
        yield from InstantEngine()(*arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect(tabulate_frames(name_frames(2000)), output, engine, save_per_num_images=190)
    space = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(space.f_bavail * space.f_bsize - 4 * 4096))
    with pytest.raises(StoreError, match=r"run/detections\.parquet: cannot be written: No space left on device"):
        detect(tabulate_frames(name_frames(2000)), output, refuse_work)
    ballast.unlink()
    assert detect(tabulate_frames(name_frames(2000)), output, refuse_work).equals(make_expected(name_frames(2000)))


# -- real frames, real models


@pytest.mark.skipif(not (CONTEST / "train.csv").is_file(), reason="the shared folder lacks frames/contest")
@pytest.mark.parametrize(
    "parameters", [{}, {"hand_detector": "hagrid,mediapipe", "fallback": "frame"}], ids=["default", "cascade"]
)
def test_hands_json_is_the_same_for_any_workers_shards_batch_and_interruption(
    tmp_path: Path, parameters: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if parameters:
        request.getfixturevalue("hagrid_weights")
    source = FolderSource(str(CONTEST / "TRAIN_DATA"))
    table = frames_csv.read_frames_csv(CONTEST / "train.csv", source, make_config().labels)
    table = frame_table.select_frames(table.iloc[::6].reset_index(drop=True), list(make_config().labels))
    base = make_config(**parameters)  # loaded once, so that all runs have the same
    contents, found = [], []
    for workers, size, is_stopped, batch in ((1, 100, False, 1), (2, 1, True, 3), (2, 7, False, 3)):
        output = tmp_path / f"{workers}-{size}"
        how = dataclasses.replace(base.run, workers=workers, save_per_num_images=size)
        config = dataclasses.replace(base, run=how, detection=dataclasses.replace(base.detection, batch=batch))
        if is_stopped:
            with pytest.raises(KeyboardInterrupt):
                run.detect_frames(table, source, config, str(output), stop_after_8)
        run.detect_frames(table, source, config, str(output))
        found.append(shards.read_detections(stores.open_store(str(output)), None))
        outcomes.pair_run(runs.open_run(output))
        contents.append((output / "hands.json").read_bytes())
    assert len(json.loads(contents[0])) > len(table) / 2
    assert contents[1] == contents[0]
    assert contents[2] == contents[0]
    assert found[1].equals(found[0])
    assert found[2].equals(found[0])


def stop_after_8(*arguments: Any) -> Iterator[Any]:
    """Be the local engine for eight shards, then raise KeyboardInterrupt."""
    for done, result in enumerate(local.run_shards(*arguments)):
        if done == 8:
            raise KeyboardInterrupt
        yield result


@pytest.mark.parametrize("vanishes", ["the folder", "all that was in it"])
def test_a_drive_that_is_lost_stops_the_run(vanishes: str, tmp_path: Path) -> None:
    images, elsewhere, output = tmp_path / "images", tmp_path / "elsewhere", tmp_path / "run"
    frame_paths = faults.make_frames(images, name_frames(30))

    def engine(*work: Any) -> Iterator[Any]:
        for number, result in enumerate(local.run_shards(*work)):
            if number == 1:
                images.rename(elsewhere)
                if vanishes != "the folder":
                    images.mkdir()
            yield result

    table, source = tabulate_frames(frame_paths), FolderSource(str(images))
    config = make_config(workers=1, save_per_num_images=3)
    with pytest.raises(RunError, match="is the drive still mounted"):
        run.detect_frames(table, source, config, str(output), engine)
    shutil.rmtree(images, ignore_errors=True)
    elsewhere.rename(images)
    found = run.detect_frames(table, source, config, str(output))
    assert found["frame_path"].to_pylist() == frame_paths
    assert run.count_detection_outcomes(found) == {"ok": 30, "missing": 0, "unreadable": 0, "failed": 0}


def test_frames_deleted_after_the_listing_are_missing(tmp_path: Path) -> None:
    frame_paths = faults.make_frames(tmp_path / "images", name_frames(30))
    for frame_path in frame_paths[10:14]:
        (tmp_path / "images" / frame_path).unlink()
    table = tabulate_frames(frame_paths)  # which marks them as on disk
    found = run.detect_frames(
        table, FolderSource(str(tmp_path / "images")), make_config(workers=1), str(tmp_path / "run")
    )
    assert run.count_detection_outcomes(found) == {"ok": 26, "missing": 4, "unreadable": 0, "failed": 0}


def test_a_finished_run_needs_no_weights(tmp_path: Path, hagrid_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {"hand_detector": "hagrid"}
    found = detect(tabulate_frames(NAMES), tmp_path, **parameters)
    monkeypatch.setenv("DETECTIME_MIRROR", "file:///nowhere")
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.setattr(paths, "find_model_folder", lambda: tmp_path / "nothing either")
    assert detect(tabulate_frames(NAMES), tmp_path, refuse_work, **parameters).equals(found)
    with pytest.raises(WeightsError, match="weights are missing"):
        detect(tabulate_frames([*NAMES, "video/more.jpg"]), tmp_path, refuse_work, **parameters)


def test_the_memory_of_workers_is_logged_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def engine(*work: Any) -> Iterator[Any]:
        for number, (shard, result) in enumerate(InstantEngine()(*work), start=1):
            yield shard, result.replace_schema_metadata({PEAK_MEMORY: str(100_000_000 * number).encode()})

    caplog.set_level("INFO", "detectime")
    detect(tabulate_frames(NAMES), tmp_path, engine)
    assert [record.getMessage() for record in caplog.records] == ["peak memory of a worker: 500 MB"]
    assert read_manifest(tmp_path)["peak_memory_of_a_worker"] == 500_000_000
    caplog.clear()
    detect(tabulate_frames([*NAMES, *name_frames(30)[23:]]), tmp_path, InstantEngine())
    assert caplog.records == []
    assert read_manifest(tmp_path)["peak_memory_of_a_worker"] == 500_000_000  # the maximum over all calls


def test_a_run_prints_nothing_but_its_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    detect(tabulate_frames(NAMES[:9]), tmp_path, fallback="frame")
    detect(tabulate_frames(NAMES), tmp_path, images="elsewhere", fallback="none")
    out, err = capfd.readouterr()
    assert err == ""
    assert out
    assert all("frame/s" in line for line in out.splitlines())
    assert [note.count for note in list_notes(tmp_path, "moved")] == [1]
    (note,) = list_notes(tmp_path, "resumed")
    assert "detection.whole_frame = True" in note.text
