"""A run finds the same whatever interrupts it and however it is divided, and refuses what it cannot go on with."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import encode, pattern
from faults import FINISHED, Instant, names, row, settings, stored, table_of
from hypothesis import given
from hypothesis import settings as effort
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
from detectime.images import EncodedImage
from detectime.labels import frame_table
from detectime.notes import Note
from detectime.schema import DETECTIONS, PAIRING_COLUMNS, TableVersionError
from detectime.sources.folder import FolderSource
from detectime.storage import store as stores
from detectime.storage.downloads import WeightsError
from detectime.storage.folder import FolderStore
from detectime.storage.store import StoreError

pytestmark = pytest.mark.slow

CONTEST = faults.ROOT.parent / "shared" / "frames" / "contest"


class Imaginary(FolderSource):
    """A folder that has whatever frame it is asked for; engines that cost nothing do not ask."""

    def list_frames(self) -> Iterator[tuple[str, str | None]]:
        return ((name, f"stamp of {name}") for name in names(2000))

    def open(self, frame_paths: Iterable[str]) -> Iterator[tuple[str, EncodedImage]]:
        return ((frame_path, EncodedImage(encode(pattern()))) for frame_path in frame_paths)


NOWHERE = Imaginary("/nowhere")
NAMES = names(23)


def detect(table: pd.DataFrame, output: Path, engine: Any = None, **parameters: Any) -> pa.Table:
    """Run, and return all columns of what is stored then, of which the call itself returns some."""
    parameters = {"workers": 2, "save_per_num_images": 5, **parameters}
    found = run.detect_frames(table, NOWHERE, settings(**parameters), str(output), engine or Instant())
    whole = shards.read_detections(stores.open_store(str(output)), None)
    assert len(whole) == len(found)
    whole = whole.take(pc.index_in(found["frame_path"], whole["frame_path"]))
    assert whole.select(PAIRING_COLUMNS).equals(found)
    return whole


def expected(frame_paths: list[str]) -> pa.Table:
    rows = [row(name) | {"stamp": f"stamp of {name}"} for name in frame_paths]
    return pa.Table.from_pylist(rows, schema=DETECTIONS)


def hands(table: pd.DataFrame, found: pa.Table, **parameters: Any) -> bytes:
    samples = pairing.pair_frames(table, found, settings(**parameters).pairing)
    return b"".join(hands_json.encode_samples(samples))


def noted(output: Path, kind: str) -> list[Note]:
    """Notes of a kind that a finished run has."""
    return [note for note in runs.open_run(output).notes if note.kind == kind]


def manifest(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "run.json").read_text())
    return content


def nothing_to_do(*_: Any) -> Any:
    raise AssertionError("the engine was asked")


# -- the same result


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_shard_size_and_order_change_nothing(tmp_path: Path, size: int, seed: int | None) -> None:
    engine = Instant(seed=seed)
    found = detect(table_of(NAMES), tmp_path, engine, save_per_num_images=size)
    assert found.equals(expected(NAMES))
    assert pq.read_table(tmp_path / "detections.parquet").equals(found)
    assert found.schema.equals(DETECTIONS)
    assert sorted(engine.frames) == sorted(NAMES)
    assert max(map(len, engine.asked)) == min(size, 12)  # two workers share what is less than two shards
    assert stored(tmp_path) == FINISHED


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("size", [1, 4])
def test_a_run_that_is_interrupted_again_and_again_repeats_and_loses_nothing(
    tmp_path: Path, size: int, seed: int | None
) -> None:
    asked: list[str] = []
    for _ in range(len(NAMES)):
        engine = Instant(stop_after=2, seed=seed)
        try:
            found = detect(table_of(NAMES), tmp_path, engine, save_per_num_images=size)
        except KeyboardInterrupt:
            asked += [name for shard in engine.asked[:2] for name in shard]
            assert manifest(tmp_path)["finished"] is None
            assert "detections.parquet" not in stored(tmp_path)
        else:
            asked += engine.frames
            break
    assert found.equals(expected(NAMES))
    assert sorted(asked) == sorted(NAMES)
    assert stored(tmp_path) == FINISHED


@effort(max_examples=12, deadline=None)
@given(
    loses=st.sets(st.sampled_from(NAMES)),
    knows=st.lists(st.booleans(), min_size=1),
    size=st.integers(1, 30),
    seed=st.none() | st.integers(0, 3),
)
def test_a_frame_that_costs_its_worker_is_found_and_its_neighbours_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, loses: set[str], knows: list[bool], size: int, seed: int | None
) -> None:
    answers = iter(knows * 1000)
    engine = Instant(loses=loses, knows=lambda: next(answers), seed=seed)
    output = tmp_path_factory.mktemp("run")
    found = detect(table_of(NAMES), output, engine, save_per_num_images=size)
    assert found["frame_path"].to_pylist() == NAMES
    for one in found.to_pylist():
        if one["frame_path"] in loses:
            assert (one["outcome"], one["error"]) == ("failed", "the worker died")
            assert engine.frames.count(one["frame_path"]) >= 3  # it might have been somebody else's fault
        else:
            assert one == expected([one["frame_path"]]).to_pylist()[0]
    assert len(engine.asked) <= len(NAMES) + len(loses) * (3 + 2 * 23)
    shutil.rmtree(output)


def test_a_large_set_is_cut_into_shards_lazily(tmp_path: Path) -> None:
    waiting: list[int] = []

    def engine(shards: Any, *rest: Any) -> Any:
        for result in Instant()(shards, *rest):
            waiting.append(len(shards))
            yield result

    detect(table_of(names(100)), tmp_path, engine, save_per_num_images=10)
    assert waiting == list(reversed(range(10)))


# -- growth


def test_a_run_grows_by_what_is_new_and_keeps_what_it_has(tmp_path: Path) -> None:
    few, many = NAMES[:9], NAMES
    detect(table_of(few), tmp_path)
    engine = Instant()
    assert detect(table_of(many), tmp_path, engine).equals(expected(many))  # a longer csv
    assert sorted(engine.frames) == sorted(many[9:])
    # A shorter one again: its frames come first, the others stay, by name.
    short = detect(table_of(few[::-1]), tmp_path, nothing_to_do)
    assert short.equals(expected(few[::-1] + sorted(set(many) - set(few))))
    assert pq.read_table(tmp_path / "detections.parquet").num_rows == len(many)


def test_a_reordered_table_needs_no_work_and_comes_in_its_order(tmp_path: Path) -> None:
    shuffled = [str(name) for name in np.random.default_rng(5).permutation(NAMES)]
    detect(table_of(NAMES), tmp_path / "one")
    assert detect(table_of(shuffled), tmp_path / "one", nothing_to_do).equals(expected(shuffled))
    straight = detect(table_of(shuffled), tmp_path / "two")
    table = table_of(shuffled)
    again = detect(table, tmp_path / "one", nothing_to_do)
    assert hands(table, again) == hands(table, straight)


def test_limit_and_classes_grow_the_run(tmp_path: Path) -> None:
    table = table_of(NAMES).assign(class_name=["stop", "ok"] * 11 + ["mute"])
    asked = []
    for classes, limit in ((["stop"], 3), (["stop"], 8), (["stop", "ok"], 8), (["stop", "ok", "mute"], None)):
        engine = Instant()
        found = detect(frame_table.select_frames(table, classes, limit), tmp_path, engine)
        asked.append(sorted(engine.frames))
    stop, ok = NAMES[:22:2], NAMES[1:22:2]
    assert asked[0] == sorted(stop[:3])
    assert asked[1] == sorted(stop[3:8])
    assert asked[2] == sorted(ok[:4])
    assert sorted(name for part in asked for name in part) == sorted(NAMES)
    assert found.equals(expected(NAMES))


def test_growth_that_is_interrupted_says_that_the_run_is_not_finished(tmp_path: Path) -> None:
    detect(table_of(NAMES[:9]), tmp_path)
    started = manifest(tmp_path)["started"]
    assert manifest(tmp_path)["finished"] is not None
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=1))
    assert manifest(tmp_path)["finished"] is None
    assert detect(table_of(NAMES), tmp_path).equals(expected(NAMES))
    assert manifest(tmp_path)["finished"] is not None
    assert manifest(tmp_path)["started"] == started


def test_more_than_a_million_shards_keep_their_order(tmp_path: Path) -> None:
    # What was saved last counts: the next shards must sort behind those that are there.
    detect(table_of(NAMES[:4]), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=1, missing=NAMES))
    (shard,) = (tmp_path / "shards").iterdir()
    digits = len(shard.stem)
    shard.rename(shard.with_stem(str(10 ** min(digits, 6) - 1).zfill(digits)))
    engine = Instant(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, engine, retry_failed=True, save_per_num_images=1)
    assert {*engine.frames[:2]} == {*NAMES[4:6]}
    engine = Instant()
    assert detect(table_of(NAMES), tmp_path, engine, retry_failed=True).equals(expected(NAMES))
    assert not {*NAMES[:6]} & {*engine.frames}


# -- what failed


def test_retry_failed_does_what_failed_again_and_nothing_else(tmp_path: Path) -> None:
    bad = {NAMES[0]: "missing", NAMES[7]: "unreadable", NAMES[22]: "failed"}

    def engine(shards: Any, *rest: Any) -> Any:
        for shard, result in Instant()(shards, *rest):
            rows = [
                {**one, "outcome": bad.get(one["frame_path"], "ok"), "error": "e" if one["frame_path"] in bad else None}
                for one in result.to_pylist()
            ]
            yield shard, pa.Table.from_pylist(rows, schema=DETECTIONS)

    found = detect(table_of(NAMES), tmp_path, engine)
    assert [one["frame_path"] for one in found.to_pylist() if one["outcome"] != "ok"] == list(bad)
    assert manifest(tmp_path)["outcomes"] == {"ok": 20, "missing": 1, "unreadable": 1, "failed": 1}
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(found)
    # One of them is not wanted any more: it is left alone.
    table = table_of(NAMES)
    table.loc[22, "wanted"] = False
    again = Instant()
    found = detect(table, tmp_path, again, retry_failed=True)
    assert again.frames == [NAMES[0], NAMES[7]]
    assert manifest(tmp_path)["outcomes"] == {"ok": 22, "missing": 0, "unreadable": 0, "failed": 1}
    assert found.slice(0, 22).equals(expected(NAMES[:22]))
    assert detect(table, tmp_path, nothing_to_do, retry_failed=True).equals(found)
    assert detect(table_of(NAMES), tmp_path, retry_failed=True).equals(expected(NAMES))


def test_retry_failed_counts_what_came_last_also_before_the_shards_are_compacted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=2, missing=NAMES))
    again = Instant(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, again, retry_failed=True)
    assert again.asked[0] == tuple(NAMES[:5])
    found = detect(table_of(NAMES), tmp_path)
    outcomes = found["outcome"].to_pylist()
    assert outcomes == ["ok"] * 5 + ["missing"] * 5 + ["ok"] * 13


# -- compaction


@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_a_run_that_is_killed_while_it_is_compacted_repeats_nothing(
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
            detect(table_of(NAMES), tmp_path)
    assert manifest(tmp_path)["finished"] is None
    assert len(list((tmp_path / "shards").iterdir())) == 5 - deleted
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(expected(NAMES))
    assert stored(tmp_path) == FINISHED
    assert manifest(tmp_path)["finished"] is not None


def test_a_finished_run_answers_again_without_an_engine(tmp_path: Path) -> None:
    found = detect(table_of(NAMES), tmp_path)
    before = manifest(tmp_path)
    content = (tmp_path / "detections.parquet").stat()
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(found)
    assert manifest(tmp_path) == before
    assert (tmp_path / "detections.parquet").stat().st_mtime_ns == content.st_mtime_ns  # nor is it written again


def test_nothing_wanted_is_no_error(tmp_path: Path) -> None:
    found = detect(table_of(NAMES).assign(wanted=False), tmp_path, nothing_to_do)
    assert found.num_rows == 0
    assert found.schema.equals(DETECTIONS)


# -- refusals


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
    "exif": "apply",
    "max_pixels": 1000,
}


@pytest.mark.parametrize("changed", [{key: value} for key, value in OTHER.items()] + [OTHER], ids=lambda c: "+".join(c))
def test_another_detection_configuration_is_refused_by_name(tmp_path: Path, changed: dict[str, Any]) -> None:
    found = detect(table_of(NAMES), tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError) as refusal:
        detect(table_of(NAMES), tmp_path, nothing_to_do, **changed)
    own = dataclasses.asdict(settings().detection) | {"whole_frame": False}  # null means it, as nothing asks for more
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    for key, value in own.items():
        named = f"detection.{key}: the run has {value!r}, now it is {changed.get(key)!r}" in str(refusal.value)
        assert named == (key in changed)
    assert (tmp_path / "run.json").read_bytes() == before
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(found)


def test_every_key_that_the_default_detectors_read_is_tried_above() -> None:
    # The keys of others: see test_binding.
    elsewhere = {"detector_type", "hand_detector", "detector_settings", "device", "batch"}
    assert set(find_used_keys(settings().detection)) == {*OTHER, *elsewhere}


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
def test_everything_else_is_free(tmp_path: Path, changed: dict[str, Any]) -> None:
    found = detect(table_of(NAMES), tmp_path)
    assert detect(table_of(NAMES), tmp_path, nothing_to_do, **changed).equals(found)


def test_a_run_of_an_earlier_version_looks_on_as_it_did(tmp_path: Path) -> None:
    detect(table_of(NAMES[:9]), tmp_path)
    before = manifest(tmp_path) | {"detectime": "0.2.0"}
    before["configuration"]["detection"] |= {"hand_detector": "mediapipe", "search_coefficient": 2.0}
    for key in ("near_coefficient", "reduced_decoding", "whole_frame", "batch"):
        del before["configuration"]["detection"][key]
    (tmp_path / "run.json").write_text(json.dumps(before))
    for changed, was in (({"search_coefficient": 3.0}, "2.0"), ({"near_coefficient": 2.0}, "1.5")):
        (key,) = changed
        with pytest.raises(RunError, match=rf"detection\.{key}: the run has {was}, now it is"):
            detect(table_of(NAMES), tmp_path, nothing_to_do, **changed)
    assert json.loads((tmp_path / "run.json").read_text()) == before
    assert detect(table_of(NAMES), tmp_path).equals(expected(NAMES))
    kept = manifest(tmp_path)["configuration"]["detection"]
    assert (kept["search_coefficient"], kept["near_coefficient"], kept["whole_frame"]) == (2.0, 1.5, False)
    (note,) = noted(tmp_path, "resumed")
    assert "detection.search_coefficient = 2.0" in note.text


@pytest.mark.parametrize("fallback", ["none", "wider"])
def test_a_run_that_looked_at_whole_frames_goes_on_doing_so(tmp_path: Path, fallback: str) -> None:
    detect(table_of(NAMES[:9]), tmp_path, fallback="frame")
    asked: list[bool | None] = []

    def engine(shards: Any, chosen: Chosen, *rest: Any) -> Any:
        asked.append(chosen.config.whole_frame)
        yield from Instant()(shards, chosen, *rest)

    found = detect(table_of(NAMES), tmp_path, engine, fallback=fallback)
    assert found.equals(expected(NAMES))
    assert asked == [True]
    kept = manifest(tmp_path)["configuration"]
    assert (kept["detection"]["whole_frame"], kept["pairing"]["fallback"]) == (True, fallback)
    assert detect(table_of(NAMES), tmp_path, nothing_to_do, fallback="frame").equals(found)


@pytest.mark.parametrize(
    ("fallback", "whole_frame", "looks"),
    [("none", None, False), ("wider", None, False), ("frame", None, True), ("none", True, True), ("frame", True, True)],
)
def test_whole_frames_are_looked_at_if_the_fallback_asks_for_it(
    fallback: str, whole_frame: bool | None, looks: bool, tmp_path: Path
) -> None:
    detect(table_of(NAMES), tmp_path, fallback=fallback, whole_frame=whole_frame)
    assert manifest(tmp_path)["configuration"]["detection"]["whole_frame"] is looks


def test_a_run_that_looked_at_whole_frames_does_not_leave_off_unseen(tmp_path: Path) -> None:
    detect(table_of(NAMES), tmp_path, fallback="frame")
    with pytest.raises(RunError, match=r"whole_frame: the run has True, now it is False"):
        detect(table_of(NAMES), tmp_path, nothing_to_do, whole_frame=False)


def test_a_run_that_did_not_look_at_whole_frames_cannot_begin_to(tmp_path: Path) -> None:
    found = detect(table_of(NAMES), tmp_path, fallback="wider")
    with pytest.raises(RunError, match=r"whole_frame: the run has False.*; pairing\.fallback = 'frame' is"):
        detect(table_of(NAMES), tmp_path, nothing_to_do, fallback="frame")
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(found)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("hagird", "there is no detector 'hagird'; did you mean 'hagrid'? accepted: mediapipe, hagrid, mask_rcnn"),
        ("mediapipe,yolo", "there is no detector 'yolo'; accepted: mediapipe, hagrid, mask_rcnn"),
        ("mediapipe,hagrid,mediapipe", "mediapipe: named more than once; accepted: each once"),
    ],
)
def test_hand_detectors_that_cannot_be_are_refused_before_any_work(tmp_path: Path, names: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        detect(table_of(NAMES), tmp_path, nothing_to_do, hand_detector=names)
    assert "detection.hand_detector" in str(refusal.value)
    assert words in str(refusal.value)
    assert stored(tmp_path) == set()


def test_another_vocabulary_is_free(tmp_path: Path) -> None:
    found = detect(table_of(NAMES), tmp_path)
    config = dataclasses.replace(settings(), labels={"no_gesture": 0, "wave": 9})
    again = run.detect_frames(table_of(NAMES), NOWHERE, config, str(tmp_path), nothing_to_do)
    assert again.equals(found.select(PAIRING_COLUMNS))
    assert manifest(tmp_path)["configuration"]["labels"] == {"no_gesture": 0, "wave": 9}


def test_other_weights_are_refused_by_name_when_frames_are_to_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = detect(table_of(NAMES), tmp_path / "run")
    recorded = manifest(tmp_path / "run")["detectors"]
    other = tmp_path / "retinaface_mobilenet025.onnx"
    other.write_bytes(b"trained a little longer")
    replaced = dataclasses.replace(registry.FACES["retinaface"], find_weights=lambda _: [other])
    monkeypatch.setitem(registry.FACES, "retinaface", replaced)
    words = r"weights of retinaface: retinaface_mobilenet025\.onnx \('[0-9a-f]{64}' then, '[0-9a-f]{64}' now\)"
    with pytest.raises(RunError, match=words) as refusal:
        detect(table_of([*NAMES, "video/more.jpg"]), tmp_path / "run", nothing_to_do)
    assert str(refusal.value).count(" then, ") == 1
    # What is finished stays usable, and says so.
    assert detect(table_of(NAMES), tmp_path / "run", nothing_to_do).equals(found)
    (note,) = noted(tmp_path / "run", "detectors")
    assert re.search(words, note.text)
    assert manifest(tmp_path / "run")["detectors"] == recorded


def test_another_detector_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect(table_of(NAMES), tmp_path)
    second = dataclasses.replace(registry.HANDS["mediapipe"], name="second")
    monkeypatch.setitem(registry.HANDS, "second", second)
    with pytest.raises(RunError) as refusal:
        detect(table_of(NAMES), tmp_path, nothing_to_do, hand_detector="mediapipe,second")
    words = "detection.hand_detector: the run has ['mediapipe'], now it is ['mediapipe', 'second']"
    assert words in str(refusal.value)
    another = dataclasses.replace(registry.FACES["retinaface"], name="another")
    monkeypatch.setitem(registry.FACES, "another", another)
    with pytest.raises(RunError, match=r"detection\.detector_type: the run has 'retinaface', now it is 'another'"):
        detect(table_of(NAMES), tmp_path, nothing_to_do, detector_type="another")


def test_a_run_of_which_every_frame_is_missing_is_refused_before_it_starts(tmp_path: Path) -> None:
    table = table_of(NAMES, there=[])
    with pytest.raises(RunError, match="/nowhere: not one of the 23 wanted frames is there") as refusal:
        detect(table, tmp_path, nothing_to_do)
    assert NAMES[0] in str(refusal.value)
    assert stored(tmp_path) == set()
    # What is there, but not wanted, does not count.
    table = table_of(NAMES, there=NAMES[:1])
    table.loc[0, "wanted"] = False
    with pytest.raises(RunError, match="not one of the 22 wanted frames"):
        detect(table, tmp_path, nothing_to_do)
    assert stored(tmp_path) == set()


def test_one_frame_that_is_there_is_enough(tmp_path: Path) -> None:
    found = detect(table_of(NAMES, there=NAMES[5:6]), tmp_path, Instant(missing=set(NAMES) - {NAMES[5]}))
    assert found["outcome"].to_pylist().count("missing") == 22


def test_a_finished_run_answers_without_its_frames(tmp_path: Path) -> None:
    found = detect(table_of(NAMES), tmp_path)
    assert detect(table_of(NAMES, there=[]), tmp_path, nothing_to_do).equals(found)


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
def test_a_manifest_that_is_garbage_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    detect(table_of(NAMES), tmp_path)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=re.escape(f"{tmp_path}/run.json: this is no manifest of a run")) as refusal:
        detect(table_of(NAMES), tmp_path, nothing_to_do)
    assert "another `output`" in str(refusal.value)
    assert (tmp_path / "run.json").read_bytes() == content


@pytest.mark.parametrize("finished", [True, False])
def test_a_manifest_that_is_gone_is_missed(tmp_path: Path, finished: bool) -> None:
    if finished:
        detect(table_of(NAMES), tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            detect(table_of(NAMES), tmp_path, Instant(stop_after=1))
    (tmp_path / "run.json").unlink()
    before = stored(tmp_path)
    with pytest.raises(RunError, match=r"there are detections, but no run\.json"):
        detect(table_of(NAMES), tmp_path, nothing_to_do)
    assert stored(tmp_path) == before


@pytest.mark.parametrize("finished", [True, False])
def test_detections_that_are_damaged_are_set_aside_and_looked_for_again(tmp_path: Path, finished: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=2))
    if finished:
        detect(table_of(NAMES), tmp_path)
    damaged = tmp_path / "detections.parquet" if finished else sorted((tmp_path / "shards").iterdir())[0]
    content = damaged.read_bytes()[:-20]
    damaged.write_bytes(content)
    engine = Instant()
    assert detect(table_of(NAMES), tmp_path, engine).equals(expected(NAMES))
    assert sorted(engine.frames) == sorted(NAMES if finished else NAMES[:5] + NAMES[10:])
    name = str(damaged.relative_to(tmp_path))
    assert stored(tmp_path) == FINISHED | {f"{name}.damaged"}
    assert (tmp_path / f"{name}.damaged").read_bytes() == content
    (note,) = noted(tmp_path, "damaged")
    assert (note.count, note.example) == (1, name)
    assert f"{name}.damaged" in note.text
    assert detect(table_of(NAMES), tmp_path, nothing_to_do).equals(expected(NAMES))
    assert noted(tmp_path, "damaged") == [note]  # that it happened stays on record


@pytest.mark.parametrize("column", ["frame_path", "faces.list.element.x1"])
def test_what_can_still_be_read_of_a_damaged_file_is_saved(
    column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "PIECE", 4)
    detect(table_of(NAMES), tmp_path)
    damage(tmp_path / "detections.parquet", column, group=2)
    engine = Instant()
    assert detect(table_of(NAMES), tmp_path, engine).equals(expected(NAMES))
    assert sorted(engine.frames) == sorted(NAMES[8:12])
    (note,) = noted(tmp_path, "damaged")
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
def test_a_file_that_is_no_table_of_detections_is_named_and_kept(tmp_path: Path, finished: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=2))
    if finished:
        detect(table_of(NAMES), tmp_path)
    other = tmp_path / "detections.parquet" if finished else sorted((tmp_path / "shards").iterdir())[0]
    pq.write_table(pa.table({"frame_path": ["a"]}), other)
    before = stored(tmp_path)
    with pytest.raises(TableVersionError, match=re.escape(str(other))) as refusal:
        detect(table_of(NAMES), tmp_path, nothing_to_do)
    assert "move the file elsewhere" in str(refusal.value)
    assert stored(tmp_path) == before
    other.rename(tmp_path.parent / "elsewhere.parquet")  # the remedy that it names
    assert detect(table_of(NAMES), tmp_path).equals(expected(NAMES))


def test_files_that_others_put_beside_the_shards_do_no_harm(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        detect(table_of(NAMES), tmp_path, Instant(stop_after=2))
    others = {"shards/.DS_Store", "shards/desktop.ini", "shards/000001 (1).parquet"}
    for name in others:
        (tmp_path / name).write_bytes(b"\x00")
    assert detect(table_of(NAMES), tmp_path).equals(expected(NAMES))
    assert stored(tmp_path) == FINISHED | others


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FolderStore.lock
    monkeypatch.setattr(FolderStore, "lock", lambda store: lock(store, 0.3))  # its patience is tried in test_store
    going, enough = threading.Event(), threading.Event()
    results: list[pa.Table] = []

    def engine(shards: Any, *rest: Any) -> Any:
        for result in Instant()(shards, *rest):
            going.set()
            assert enough.wait(20)
            yield result

    first = threading.Thread(target=lambda: results.append(detect(table_of(NAMES), tmp_path, engine)))
    first.start()
    assert going.wait(20)
    try:
        before = stored(tmp_path)
        with pytest.raises(StoreError, match="another run is writing to this folder"):
            detect(table_of(NAMES), tmp_path, nothing_to_do)
        assert stored(tmp_path) == before
    finally:
        enough.set()
        first.join()
    assert results[0].equals(expected(NAMES))


# -- the full disk


small_disk = faults.small_disk


def test_a_run_into_a_full_disk_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    many = names(2000)
    table = table_of(many)
    straight = detect(table, tmp_path / "straight", save_per_num_images=20)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600 * 1024))
    output = small_disk / "run"
    with pytest.raises(StoreError) as refusal:
        detect(table, output, save_per_num_images=20)
    assert "No space left on device" in str(refusal.value)
    assert "make room" in str(refusal.value)
    assert re.search(r"run/shards/0\d+\.parquet: cannot be written", str(refusal.value))
    done = faults.saved_rows(output)
    assert 0 < done < 2000
    ballast.unlink()
    small_disk_again = Instant()
    found = detect(table, output, small_disk_again, save_per_num_images=200)
    assert len(small_disk_again.frames) == 2000 - done
    assert found.equals(straight)
    assert hands(table, found) == hands(table, straight)
    assert not [name for name in stored(output) if "partial" in name]


def test_a_disk_that_is_full_when_the_run_is_compacted_loses_nothing(small_disk: Path) -> None:
    output = small_disk / "run"

    def engine(*arguments: Any) -> Any:
        yield from Instant()(*arguments)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect(table_of(names(2000)), output, engine, save_per_num_images=190)
    room = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(room.f_bavail * room.f_bsize - 4 * 4096))
    with pytest.raises(StoreError, match=r"run/detections\.parquet: cannot be written: No space left on device"):
        detect(table_of(names(2000)), output, nothing_to_do)
    ballast.unlink()
    assert detect(table_of(names(2000)), output, nothing_to_do).equals(expected(names(2000)))


# -- real frames, real models


@pytest.mark.skipif(not (CONTEST / "train.csv").is_file(), reason=f"the real frames are not there: {CONTEST}")
@pytest.mark.parametrize(
    "parameters", [{}, {"hand_detector": "hagrid,mediapipe", "fallback": "frame"}], ids=["default", "cascade"]
)
def test_hands_json_is_the_same_for_any_workers_shards_batch_and_interruption(
    tmp_path: Path, parameters: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if parameters:
        request.getfixturevalue("hagrid_weights")
    source = FolderSource(str(CONTEST / "TRAIN_DATA"))
    table = frame_table.read_frames_csv(CONTEST / "train.csv", source, settings().labels)
    table = frame_table.select_frames(table.iloc[::6].reset_index(drop=True), list(settings().labels))
    base = settings(**parameters)  # read once, so that all runs have the same
    contents, found = [], []
    for workers, size, stops, batch in ((1, 100, False, 1), (2, 1, True, 3), (2, 7, False, 3)):
        output = tmp_path / f"{workers}-{size}"
        how = dataclasses.replace(base.run, workers=workers, save_per_num_images=size)
        config = dataclasses.replace(base, run=how, detection=dataclasses.replace(base.detection, batch=batch))
        if stops:
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
    """Be the local engine until Ctrl-C comes."""
    for done, result in enumerate(local.run_shards(*arguments)):
        if done == 8:
            raise KeyboardInterrupt
        yield result


@pytest.mark.parametrize("vanishes", ["the folder", "all that was in it"])
def test_a_drive_that_is_lost_on_the_way_stops_the_run(vanishes: str, tmp_path: Path) -> None:
    images, elsewhere, output = tmp_path / "images", tmp_path / "elsewhere", tmp_path / "run"
    frame_paths = faults.make_frames(images, faults.names(30))

    def engine(*work: Any) -> Iterator[Any]:
        for number, result in enumerate(local.run_shards(*work)):
            if number == 1:
                images.rename(elsewhere)
                if vanishes != "the folder":
                    images.mkdir()
            yield result

    table, source = faults.table_of(frame_paths), FolderSource(str(images))
    config = faults.settings(workers=1, save_per_num_images=3)
    with pytest.raises(RunError, match="is the drive still mounted"):
        run.detect_frames(table, source, config, str(output), engine)
    shutil.rmtree(images, ignore_errors=True)
    elsewhere.rename(images)
    found = run.detect_frames(table, source, config, str(output))
    assert found["frame_path"].to_pylist() == frame_paths
    assert run.count_detection_outcomes(found) == {"ok": 30, "missing": 0, "unreadable": 0, "failed": 0}


def test_frames_that_are_deleted_on_the_way_are_missing(tmp_path: Path) -> None:
    frame_paths = faults.make_frames(tmp_path / "images", faults.names(30))
    for frame_path in frame_paths[10:14]:
        (tmp_path / "images" / frame_path).unlink()
    table = faults.table_of(frame_paths)  # which says that they are there
    found = run.detect_frames(
        table, FolderSource(str(tmp_path / "images")), faults.settings(workers=1), str(tmp_path / "run")
    )
    assert run.count_detection_outcomes(found) == {"ok": 26, "missing": 4, "unreadable": 0, "failed": 0}


def test_a_source_that_reads_in_another_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"make it by sources\.of"):
        detect(table_of(NAMES), tmp_path, nothing_to_do, max_pixels=1000)
    assert not (tmp_path / "run.json").exists()


def test_a_finished_run_is_paired_again_without_the_weights(
    tmp_path: Path, hagrid_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"hand_detector": "hagrid"}
    found = detect(table_of(NAMES), tmp_path, **parameters)
    monkeypatch.setenv("DETECTIME_MIRROR", "file:///nowhere")
    monkeypatch.setenv("DETECTIME_WEIGHTS", str(tmp_path / "nothing"))
    monkeypatch.setattr(paths, "MODEL", tmp_path / "nothing either")
    assert detect(table_of(NAMES), tmp_path, nothing_to_do, **parameters).equals(found)
    with pytest.raises(WeightsError, match="not there"):
        detect(table_of([*NAMES, "video/more.jpg"]), tmp_path, nothing_to_do, **parameters)


def test_the_memory_of_workers_is_logged_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def engine(*work: Any) -> Iterator[Any]:
        for number, (shard, result) in enumerate(Instant()(*work), start=1):
            yield shard, result.replace_schema_metadata({PEAK_MEMORY: str(100_000_000 * number).encode()})

    caplog.set_level("INFO", "detectime")
    detect(table_of(NAMES), tmp_path, engine)
    assert [record.getMessage() for record in caplog.records] == ["a worker took 500 MB of memory at most"]
    assert manifest(tmp_path)["peak_memory_of_a_worker"] == 500_000_000
    caplog.clear()
    detect(table_of([*NAMES, *names(30)[23:]]), tmp_path, Instant())
    assert caplog.records == []
    assert manifest(tmp_path)["peak_memory_of_a_worker"] == 500_000_000  # of all that worked on this run


def test_a_run_prints_nothing_but_its_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    detect(table_of(NAMES[:9]), tmp_path, fallback="frame")
    detect(table_of(NAMES), tmp_path, images="elsewhere", fallback="none")
    out, err = capfd.readouterr()
    assert err == ""
    assert all("frame/s" in line for line in out.splitlines())
    assert [note.count for note in noted(tmp_path, "moved")] == [1]
    (note,) = noted(tmp_path, "resumed")
    assert "detection.whole_frame = True" in note.text
