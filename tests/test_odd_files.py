"""Files of a run that a program or a person changed: refused by a documented error, before anything is made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skips import need_extra
from test_videos import make

from detectime import runs
from detectime.decisions import parse_corners
from detectime.detection.manifest import RunError
from detectime.exports.contract import ExportError
from detectime.exports.export_folder import read_export
from detectime.images import UnreadableImageError
from detectime.pairing import MissingDetectionsError
from detectime.schema import DamagedTableError, TableVersionError
from detectime.sources import open_source, video_decoder, video_packets
from detectime.splits.split_file import read_split, update_split
from detectime.storage.store import open_store
from detectime.trace import trace_frame

Change = Callable[[pa.Table], pa.Table]


@pytest.fixture
def run_folder(sample_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sample_run, tmp_path / "run"))


def change_table(file: Path, change: Change) -> None:
    """Write a table anew, as another program would."""
    pq.write_table(change(pq.read_table(file)), file, write_page_checksum=True)


def drop(column: str) -> Change:
    return lambda table: table.drop_columns([column])


def blank(column: str) -> Change:
    """Replace values by nulls."""
    return lambda table: table.set_column(
        table.column_names.index(column), column, pa.nulls(len(table), table.schema.field(column).type)
    )


def cast(column: str, kind: pa.DataType) -> Change:
    return lambda table: table.set_column(table.column_names.index(column), column, table[column].cast(kind))


def describe(key: str, value: str) -> Change:
    """Change the metadata."""
    return lambda table: table.replace_schema_metadata({**table.schema.metadata, key.encode(): value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(drop("frame_path"), "the column frame_path is missing", id="no paths"),
        pytest.param(drop("video_name"), "the column video_name is missing", id="no groups"),
        pytest.param(blank("class_name"), "a value of class_name is missing", id="no classes"),
        pytest.param(cast("frame_id", pa.string()), "the column frame_id is string, not whole numbers", id="type"),
        pytest.param(lambda table: table.append_column("label", table["label"]), "a column is there twice", id="twice"),
        pytest.param(lambda table: table.slice(0, 0), "it has no rows", id="no rows"),
        pytest.param(describe("detectime.version", "null"), "not a table of a run", id="version"),
        pytest.param(describe("detectime.about", "[]"), "its attributes", id="attributes"),
        pytest.param(describe("detectime.about", '{"notes": 5}'), "its notes", id="notes"),
    ],
)
def test_odd_frames_are_refused(change: Change, reason: str, run_folder: Path) -> None:
    (run_folder / "outcomes.csv").unlink()  # which repeats the frames
    change_table(run_folder / "frames.parquet", change)
    with pytest.raises(DamagedTableError, match=rf"frames\.parquet: .*{reason}.*run again to rewrite it"):
        _ = runs.open_run(run_folder).frames


def test_odd_frames_are_taken_from_the_csv(run_folder: Path) -> None:
    frames = runs.open_run(run_folder).frames["frame_path"].tolist()
    change_table(run_folder / "frames.parquet", drop("label"))
    assert runs.open_run(run_folder).frames["frame_path"].tolist() == frames


def repeat(column: str) -> Change:
    return lambda table: table.append_column(column, table[column])


@pytest.mark.parametrize("change", [drop("frame_path"), drop("video_name"), blank("label"), repeat("on_disk"), None])
def test_frame_is_traced_with_odd_frames(change: Change | None, run_folder: Path) -> None:
    run = runs.open_run(run_folder)
    name = run.frames["frame_path"].iloc[3]
    expected = trace_frame(run, name)["frame"]["class_name"]
    file = run_folder / "frames.parquet"
    if change is None:
        file.write_bytes(file.read_bytes()[:100])
    else:
        change_table(file, change)
    assert trace_frame(runs.open_run(run_folder), name)["frame"]["class_name"] == expected  # from the csv


def test_frames_without_a_choice_are_refused(run_folder: Path) -> None:
    change_table(run_folder / "frames.parquet", drop("wanted"))
    with pytest.raises(RunError, match="does not say which frames are wanted; run again"):
        _ = runs.open_run(run_folder).frames


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(drop("outcome"), "the column outcome is missing", id="no outcomes"),
        pytest.param(blank("frame_path"), "a value of frame_path is missing", id="no paths"),
        pytest.param(cast("bbox_x1", pa.string()), "the column bbox_x1 is string, not numbers", id="type"),
        pytest.param(
            lambda table: table.set_column(table.column_names.index("outcome"), "outcome", table["class_name"]),
            "unknown outcomes: .*; pair the run again",
            id="other outcomes",
        ),
    ],
)
def test_odd_outcomes_are_refused(change: Change, reason: str, run_folder: Path) -> None:
    change_table(run_folder / "outcomes.parquet", change)
    with pytest.raises(DamagedTableError, match=rf"outcomes\.parquet: .*{reason}"):
        _ = runs.open_run(run_folder).outcomes


def change_boxes(column: str, number: str, value: float) -> Change:
    """Set a number of all boxes."""

    def change(table: pa.Table) -> pa.Table:
        rows = [[{**box, number: value} for box in boxes] for boxes in table[column].to_pylist()]
        position = table.column_names.index(column)
        return table.set_column(position, table.schema.field(column), pa.array(rows, table.schema.field(column).type))

    return change


def set_sizes(value: int | None) -> Change:
    def change(table: pa.Table) -> pa.Table:
        sizes = pa.array([value] * len(table), pa.int32())
        return table.set_column(table.column_names.index("width"), table.schema.field("width"), sizes)

    return change


@pytest.mark.parametrize(
    ("change", "value"),
    [
        pytest.param(change_boxes("hands", "x1", float("nan")), r"hands\.x1", id="corner"),
        pytest.param(change_boxes("faces", "score", float("inf")), r"faces\.score", id="score"),
        pytest.param(set_sizes(None), "width", id="no size"),
        pytest.param(set_sizes(-1), "width", id="size"),
    ],
)
def test_odd_detections_are_refused(change: Change, value: str, run_folder: Path) -> None:
    change_table(run_folder / "detections.parquet", change)
    run = runs.open_run(run_folder)
    with pytest.raises(DamagedTableError, match=rf"detections\.parquet: damaged \(a value of {value} is none that"):
        run.pair_frames(run.pairing)


@pytest.mark.parametrize("name", ["outcomes", "detections"])
def test_names_of_columns_that_are_no_text_are_refused(name: str, run_folder: Path) -> None:
    file = run_folder / f"{name}.parquet"
    file.write_bytes(file.read_bytes().replace(b"outcome", b"outc\xffme"))
    run = runs.open_run(run_folder)
    with pytest.raises((DamagedTableError, RunError), match=rf"{name}\.parquet"):
        _ = run.outcomes if name == "outcomes" else run.detections


def test_lost_detections_are_refused(run_folder: Path) -> None:
    change_table(run_folder / "detections.parquet", lambda table: table.slice(1))
    run = runs.open_run(run_folder)
    with pytest.raises(MissingDetectionsError, match=r"^'.*jpg': this wanted frame has no detections; run detection"):
        run.pair_frames(run.pairing)


def test_version_of_detections_that_is_no_number_is_refused(run_folder: Path) -> None:
    change_table(run_folder / "detections.parquet", describe("detectime.version", "[3]"))
    with pytest.raises(TableVersionError, match="this is not a detections table"):
        runs.open_run(run_folder).read_detections()


def set_value(tree: Any, path: str, value: Any) -> None:
    *keys, last = path.split(".")
    for key in keys:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    tree[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("detectime", None),
        ("finished", 5),
        ("detectors", []),
        ("detectors.mediapipe", {}),
        ("detectors.mediapipe.weights", "a"),
        ("outcomes", {"ok": []}),
        ("notes", []),
        ("notes.frames", 1.5),
        ("notes.frames", [{"kind": "a"}]),
        ("pairing", "a"),
        ("pairing.settings", 5),
        ("imported", [{}]),
        ("split", {"shares": 1}),
        ("frames", None),
    ],
)
def test_odd_manifest_is_refused(path: str, value: Any, run_folder: Path) -> None:
    file = run_folder / "run.json"
    tree = json.loads(file.read_bytes())
    set_value(tree, path, value)
    file.write_text(json.dumps(tree))
    with pytest.raises(RunError, match=rf"run\.json: this is not the manifest of a run \({path.split('.')[0]}"):
        runs.open_run(run_folder)


def test_nested_manifest_is_refused(run_folder: Path) -> None:
    (run_folder / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"run\.json: this is not the manifest of a run \(RecursionError"):
        runs.open_run(run_folder)


@pytest.mark.extra
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param(b"avc1", b"zzzz", "no decoder knows its pictures", id="no decoder"),
        pytest.param(b"stss\0\0\0\0\0\0", b"stss\0\0\0\0\0\xff", "End of file", id="length"),
    ],
)
def test_odd_videos_cannot_be_read(old: bytes, new: bytes, reason: str, tmp_path: Path) -> None:
    need_extra("av")
    clip = make(tmp_path / "clip.mp4", count=3, options={})
    content = clip.read_bytes()
    assert old in content
    clip.write_bytes(content.replace(old, new))
    ((_, frame),) = open_source(str(clip)).read_frames(["clip.mp4/000000"])
    assert isinstance(frame, UnreadableImageError)
    assert reason in str(frame)


@pytest.mark.parametrize("number", [10**400, float("inf"), None, True, "1"])
def test_box_has_four_finite_numbers(number: Any) -> None:
    with pytest.raises(ValueError, match="is not a box of four finite numbers"):
        parse_corners([1, 2, 3, number], "bbox")


@pytest.mark.extra
def test_a_header_that_promises_too_many_frames_takes_no_memory(tmp_path: Path) -> None:
    need_extra("av")
    clip = make(tmp_path / "clip.avi", count=10, codec="mpeg4", options={})
    content = bytearray(clip.read_bytes())
    place = content.find(b"strh") + 8 + 32  # the length of the stream
    content[place : place + 4] = (2**31).to_bytes(4, "little")
    clip.write_bytes(content)
    assert len(list(open_source(str(clip)).list_frames())) == 10


@pytest.mark.extra
def test_a_video_that_cannot_be_searched_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    av = need_extra("av")
    clip = make(tmp_path / "clip.mkv", count=40, options={"g": "10"})

    class Container:
        """A container whose file FFmpeg refuses to search."""

        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, *_: Any, **__: Any) -> None:
            raise av.error.PermissionError(1, "Operation not permitted")

    def open_badly(path: str, **options: str) -> tuple[Any, Any]:
        container, stream = video_packets.open_video(path, **options)
        return Container(container), stream

    names = ["clip.mkv/000005", "clip.mkv/000035", "clip.mkv/000002"]

    def read() -> list[Any]:
        return [frame.decode() for _, frame in open_source(str(clip)).read_frames(names)]  # type: ignore[union-attr]

    expected = read()
    monkeypatch.setattr(video_decoder, "open_video", open_badly)
    assert all(np.array_equal(*pair) for pair in zip(read(), expected, strict=True))


EXPORT = {
    "export_version": 1,
    "format": "coco",
    "numbers": {"ok": 4},
    "splits": [],
    "request": {},
    "settings": {"overwrite": False, "images": None, "box": None, "faces": False},
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T03:04:05+00:00",
    "counts": {"failed": 0},
    "notes": [],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("export_version", "1"),
        ("request", 5),
        ("finished", 0),
        ("settings", {}),
        ("counts", None),
        ("notes", [5]),
        ("numbers", ["ok"]),
    ],
)
def test_odd_export_is_refused(path: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps(EXPORT))
    assert read_export(tmp_path) == EXPORT
    file.write_text(json.dumps(EXPORT | {path: value}))
    with pytest.raises(ExportError, match=r"export\.json: damaged \(.*give another folder"):
        read_export(tmp_path)


def test_newer_export_is_told(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"export_version": 2}')
    with pytest.raises(ExportError, match="made by a newer detectime"):
        read_export(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_groups_are_appended_with_any_line_end(end: str, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.put("split.csv", f"split,video_name{end}train,a{end}".encode())
    earlier = read_split(store)
    assert earlier is not None
    grown = earlier.merge(earlier.assign(video_name="b", split="test"), how="outer")
    assert update_split(store, grown, earlier) == ([], None)
    assert (store.get("split.csv") or b"").decode() == f"split,video_name{end}train,a{end}test,b{end}"
