"""The formats Hugging Face, WebDataset and ImageFolder, read by their own libraries."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import encode_image, measure_memory
from export_data import (
    CLASS_NAMES,
    DEFAULT,
    ODD_NAMES,
    TEXTS,
    Shown,
    draw_data,
    make_data,
    make_many,
    place_pictures,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skips import need_extra

from detectime.exports import huggingface, image_folder, webdataset
from detectime.exports.contract import ExportData, ExportHead, Format, Picture
from detectime.exports.loading import FOLDER, LOADING
from detectime.storage.store import Store, open_store

PARTS = ("train", "val", "test")
CROPS = (
    (Shown("ok", (10.25, 20.5, 110.125, 220.0625)),),
    (Shown("peace", (1 / 3, 2 / 3, 100 / 3, 200 / 3), float("nan")),),
    (Shown("ok", (0.0, 0.0, 640.0, 480.0)),),
)
CLASSES = ("peace", "ok", "like")  # not in alphabetical order; `like` has no picture


def draw_picture(number: int) -> Image.Image:
    """Draw a picture that differs from those of other numbers, in size too."""
    pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_pictures(data: ExportData, suffix: str = ".png") -> list[Picture]:
    """Make the pictures of an export, in the order of its table."""
    objects: list[list[dict[str, Any]]] = [[] for _ in range(len(data.images))]
    for box in data.objects.to_dict("records"):
        objects[box["image"]].append(box)
    kind = {".png": "PNG", ".jpg": "JPEG"}[suffix]
    rows = data.images.to_dict("records")
    return [
        Picture(row, boxes, encode_image(draw_picture(number), kind), suffix)
        for number, (row, boxes) in enumerate(zip(rows, objects, strict=True))
    ]


def export(data: ExportData, kind: Format, folder: Path, per_shard: int = 2) -> ExportData:
    """Export as the pipeline does: pictures first, then `write`; return the table with the files of the pictures."""
    store = open_store(folder)
    data = place_pictures(data, kind, ".png")
    if data.pictures != "none":
        by_split: dict[str, list[Picture]] = {split: [] for split in data.splits}
        for picture in make_pictures(data):
            by_split[picture.row["split"]].append(picture)
        for split, pictures in by_split.items():
            _write_pictures(store, kind, split, pictures, data, per_shard)
    kind.write(data, store)
    return data


def _write_pictures(
    store: Store, kind: Format, split: str, pictures: Sequence[Picture], data: ExportData, per_shard: int
) -> None:
    if kind.name_picture is not None:
        for picture in pictures:
            store.put(f"{kind.name_picture(picture.row)}{picture.suffix}", picture.encoded)
        return
    assert kind.write_shard is not None
    assert kind.name_shard is not None
    head = ExportHead(data.classes, data.numbers, data.pictures)
    count = -(-len(pictures) // per_shard)
    for index in range(count):
        chosen = pictures[index * per_shard : (index + 1) * per_shard]
        kind.write_shard(store, kind.name_shard(split, index, count), chosen, head)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def list_boxes(data: ExportData) -> dict[str, list[tuple[Any, ...]]]:
    """Return the boxes of each frame as class and corners."""
    found: dict[str, list[tuple[Any, ...]]] = {path: [] for path in data.images["frame_path"]}
    paths = data.images["frame_path"].tolist()
    for box in data.objects.to_dict("records"):
        found[paths[box["image"]]].append((box["class_name"], *(box[name] for name in ("x1", "y1", "x2", "y2"))))
    return found


def to_corners(box: Sequence[float]) -> tuple[float, ...]:
    x, y, width, height = box
    return (x, y, x + width, y + height)


def assert_equal_boxes(found: dict[str, list[tuple[Any, ...]]], data: ExportData) -> None:
    expected = list_boxes(data)
    assert found.keys() == expected.keys()
    for path, boxes in found.items():
        assert [name for name, *_ in boxes] == [name for name, *_ in expected[path]]
        corners = np.array([box for _, *box in boxes]).reshape(-1, 4)
        np.testing.assert_allclose(corners, np.array([box for _, *box in expected[path]]).reshape(-1, 4), atol=0.01)


# Hugging Face


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("data/*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_crops_are_rows_with_picture_class_and_box(tmp_path: Path) -> None:
    export(make_data(CROPS, CLASSES, kept="crops"), huggingface.FORMAT, tmp_path)
    assert sorted(read_files(tmp_path)) == [f"data/train-0000{index}-of-00002.parquet" for index in range(2)]
    rows = read_rows(tmp_path)
    assert [row["label"] for row in rows] == [1, 0, 1]
    assert rows[0]["bbox"] == [10.25, 20.5, 99.875, 199.5625]
    assert rows[0]["crop"] == [10, 20, 101, 201]
    assert [row["score"] for row in rows] == [0.75, None, 0.75]
    assert [row["decision"] for row in rows] == ["", "keep", ""]
    assert rows[1]["image"] == {"bytes": encode_image(draw_picture(1)), "path": "v-1.png"}


def test_a_crop_of_a_further_hand_has_the_class_of_the_hand(tmp_path: Path) -> None:
    hands = ((Shown("ok", (0, 0, 9, 9)),), (Shown("no_gesture", (9, 9, 19, 19), 0.6, "other_hand"),))
    data = make_data(hands, ("no_gesture", "ok"), kept="crops", frame_path=["v/0.jpg", "v/0.jpg"])
    export(data, huggingface.FORMAT, tmp_path)
    assert [row["label"] for row in read_rows(tmp_path)] == [1, 0]


@pytest.mark.parametrize("kept", ["frames", "none"])
def test_frames_hold_any_number_of_boxes(tmp_path: Path, kept: str) -> None:
    export(make_data(DEFAULT, kept=kept), huggingface.FORMAT, tmp_path)
    rows = read_rows(tmp_path)
    assert [row["objects"]["category"] for row in rows] == [[0], [1, 0], []]
    assert rows[0]["objects"]["area"] == [99.875 * 199.5625]
    assert rows[1]["objects"]["bbox"][0] == [0, 0, 640, 480]
    assert rows[1]["objects"]["score"] == [0.75, None]
    assert ("image" in rows[0]) == (kept == "frames")


def test_row_groups_are_small_enough_for_streaming_and_pictures_are_not_compressed_again(tmp_path: Path) -> None:
    data = dataclasses.replace(make_many(250, ("",)), pictures="crops")
    picture = encode_image(draw_picture(0))
    rows, boxes = data.images.to_dict("records"), data.objects.to_dict("records")
    pictures = [Picture(row, [box], picture, ".png") for row, box in zip(rows, boxes, strict=True)]
    huggingface.write_shard(
        open_store(tmp_path), "a.parquet", pictures, ExportHead(data.classes, data.numbers, "crops")
    )
    found = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [found.row_group(index).num_rows for index in range(found.num_row_groups)] == [100, 100, 50]
    column = next(
        column
        for column in (found.row_group(0).column(index) for index in range(found.num_columns))
        if column.path_in_schema == "image.bytes"
    )
    assert column.compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in column.encodings


@pytest.mark.parametrize("split", ["a b", "a/b", "all", "a-b", "."])
@pytest.mark.parametrize("kind", [huggingface, webdataset, image_folder])
def test_a_split_that_datasets_cannot_hold_is_told(kind: ModuleType, split: str) -> None:
    fault = kind.FORMAT.find_data_fault(make_data(splits=("train", split)))
    assert fault is not None
    assert f"split {split!r}" in fault
    assert "rename it in split.csv" in fault
    assert kind.FORMAT.find_data_fault(make_data(splits=("train", "val"))) is None


@settings(deadline=None, max_examples=60)
@given(draw_data(kept=("none", "frames")))
def test_parquet_holds_any_name_and_box(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(data, huggingface.FORMAT, Path(folder))
        names = [data.classes[row["label"]] for row in read_rows(Path(folder))]
        rows = {row["frame_path"]: row for row in read_rows(Path(folder))}
        found = {
            path: [
                (data.classes[category], *to_corners(box))
                for category, box in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
            ]
            for path, row in rows.items()
        }
    assert_equal_boxes(found, data)
    assert sorted(names) == sorted(data.images["class_name"])
    assert {path: row["video_name"] for path, row in rows.items()} == dict(
        zip(data.images["frame_path"], data.images["video_name"], strict=True)
    )


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Import `datasets`, which then reaches for no network and writes nothing into the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        library = need_extra("datasets")
        library.disable_progress_bars()
        yield library


@pytest.mark.extra
@pytest.mark.parametrize("splits", [("",), PARTS])
def test_datasets_reads_crops_with_typed_features(datasets: Any, tmp_path: Path, splits: tuple[str, ...]) -> None:
    data = make_data(CROPS, CLASSES, kept="crops", splits=splits)
    export(data, huggingface.FORMAT, tmp_path / "set")
    loaded = datasets.load_dataset("parquet", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {split or "train" for split in splits}
    features = next(iter(loaded.values())).features
    assert features["image"] == datasets.Image()
    assert features["label"] == datasets.ClassLabel(names=list(CLASSES))
    assert features["bbox"] == datasets.List(datasets.Value("float64"), length=4)
    rows = [row for part in loaded.values() for row in part]
    found = {row["frame_path"]: [(features["label"].int2str(row["label"]), *to_corners(row["bbox"]))] for row in rows}
    assert_equal_boxes(found, data)
    number = {path: number for number, path in enumerate(data.images["frame_path"])}
    for row in rows:
        assert np.array_equal(row["image"], draw_picture(number[row["frame_path"]]))


@pytest.mark.extra
@pytest.mark.parametrize("kept", ["frames", "none"])
def test_datasets_reads_frames_as_data_sets_for_object_detection(datasets: Any, tmp_path: Path, kept: str) -> None:
    data = make_data(DEFAULT, kept=kept)
    export(data, huggingface.FORMAT, tmp_path / "set")
    part = datasets.load_dataset("parquet", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))["train"]
    objects = part.features["objects"]
    assert objects["category"] == datasets.List(datasets.ClassLabel(names=["ok", "peace"]))
    assert objects["bbox"] == datasets.List(datasets.List(datasets.Value("float64"), length=4))
    found = {
        row["frame_path"]: [
            (objects["category"].feature.int2str(category), *to_corners(box))
            for category, box in zip(row["objects"]["category"], row["objects"]["bbox"], strict=True)
        ]
        for row in part
    }
    assert_equal_boxes(found, data)


@pytest.mark.extra
@settings(deadline=None, max_examples=12)
@given(draw_data(kept=("none", "frames", "crops"), one_object=True))
def test_datasets_reads_odd_names_one_sample_and_empty_classes(datasets: Any, data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(data, huggingface.FORMAT, Path(folder, "set"))
        if not len(data.images):
            assert not read_files(Path(folder, "set"))
            return
        loaded = datasets.load_dataset("parquet", data_dir=f"{folder}/set", cache_dir=f"{folder}/cache")
        for split, part in loaded.items():
            assert part.features["label"].names == list(data.classes)
            own = data.images[data.images["split"] == ("" if data.splits == ("",) else split)]
            assert part["frame_path"][:] == own["frame_path"].tolist()
            assert [data.classes[label] for label in part["label"]] == own["class_name"].tolist()


@pytest.mark.extra
def test_datasets_streams_from_a_part(datasets: Any, tmp_path: Path) -> None:
    export(make_data(CROPS, CLASSES, kept="crops", splits=PARTS), huggingface.FORMAT, tmp_path)
    stream = datasets.load_dataset("parquet", data_dir=str(tmp_path), split="val", streaming=True)
    assert [row["frame_path"] for row in stream] == ["v/1.jpg"]


# WebDataset


def read_tar(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def test_a_tar_holds_each_picture_its_class_and_its_facts(tmp_path: Path) -> None:
    export(make_data(CROPS, CLASSES, kept="crops"), webdataset.FORMAT, tmp_path)
    assert sorted(read_files(tmp_path)) == ["classes.json", "train-000000.tar", "train-000001.tar"]
    members = read_tar(tmp_path / "train-000000.tar")
    assert [name for name, _ in members] == [f"v-{n}.{end}" for n in range(2) for end in ("png", "cls", "json")]
    assert members[0][1] == encode_image(draw_picture(0))
    assert [members[1][1], members[4][1]] == [b"1", b"0"]
    facts = json.loads(members[5][1])
    assert facts["frame_path"] == "v/1.jpg"
    assert [facts[f"crop_{name}"] for name in ("x1", "y1", "x2", "y2")] == [0, 0, 34, 67]
    assert facts["objects"][0]["x2"] == 100 / 3
    assert facts["objects"][0]["score"] is None
    assert json.loads((tmp_path / "classes.json").read_bytes())[2] == {"class_name": "like", "index": 2, "label": 2}


def test_other_programs_read_a_tar_with_a_long_name(tmp_path: Path) -> None:
    data = make_data(CROPS[:1], CLASSES, kept="crops", name=["n" * 120])
    export(data, webdataset.FORMAT, tmp_path)
    listed = subprocess.run(["tar", "-tf", tmp_path / "train-000000.tar"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [f"{'n' * 120}.{end}" for end in ("png", "cls", "json")]


@settings(deadline=None, max_examples=60)
@given(draw_data(kept=("frames",)))
def test_a_tar_holds_any_name_and_box(data: ExportData) -> None:
    with tempfile.TemporaryDirectory() as folder:
        export(data, webdataset.FORMAT, Path(folder))
        members = [member for file in sorted(Path(folder).glob("*.tar")) for member in read_tar(file)]
    facts = [json.loads(content.decode("ascii")) for name, content in members if name.endswith(".json")]
    found = {
        each["frame_path"]: [
            (box["class_name"], *(box[k] for k in ("x1", "y1", "x2", "y2"))) for box in each["objects"]
        ]
        for each in facts
    }
    assert_equal_boxes(found, data)
    classes = [data.classes[int(content)] for name, content in members if name.endswith(".cls")]
    assert classes == [each["class_name"] for each in facts]


@pytest.mark.extra
@settings(deadline=None, max_examples=20)
@given(draw_data(kept=("crops",), one_object=True))
def test_webdataset_reads_what_was_written(data: ExportData) -> None:
    library = need_extra("webdataset")
    with tempfile.TemporaryDirectory() as folder:
        export(data, webdataset.FORMAT, Path(folder))
        files = [str(file) for file in sorted(Path(folder).glob("*.tar"))]
        if not files:
            assert not len(data.images)
            return
        stream = library.WebDataset(files, shardshuffle=False).decode("pil").to_tuple("jpg;png", "cls", "json")
        found = list(stream)
    rows = data.images.set_index("frame_path")
    assert len(found) == len(rows)
    for picture, index, facts in found:
        assert data.classes[index] == rows.loc[facts["frame_path"], "class_name"]
        assert np.array_equal(picture, draw_picture(rows.index.get_loc(facts["frame_path"])))


# ImageFolder


def test_pictures_lie_in_folders_of_their_classes_also_empty_ones(tmp_path: Path) -> None:
    export(make_data(CROPS, CLASSES, kept="crops", splits=PARTS[:2]), image_folder.FORMAT, tmp_path)
    assert sorted(read_files(tmp_path)) == [
        "classes.json",
        *("train/like/.keep", "train/metadata.parquet", "train/ok/v-0.png", "train/ok/v-2.png", "train/peace/.keep"),
        *("val/like/.keep", "val/metadata.parquet", "val/ok/.keep", "val/peace/v-1.png"),
    ]
    assert json.loads((tmp_path / "classes.json").read_bytes()) == [
        {"class_name": "peace", "index": 0, "label": 0, "folder_index": 2},
        {"class_name": "ok", "index": 1, "label": 1, "folder_index": 1},
        {"class_name": "like", "index": 2, "label": 2, "folder_index": 0},
    ]


def test_a_set_that_is_not_split_has_a_folder_too_so_that_no_other_folder_becomes_a_class(tmp_path: Path) -> None:
    export(make_data(CROPS, CLASSES, kept="crops"), image_folder.FORMAT, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["train"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "a/b",
            "a\\b",
            "nul\0",
            ".",
            "..",
            " ok",
            "ok ",
            "ok.",
            ".ok",
            "CON",
            "con",
            "Lpt1.txt",
            "aux .x",
            "com¹",
        ),
        *("a:b", "a*b", "a?b", '"a"', "<a>", "a|b", "a\nb", "\x7f", "x" * 256, "é" * 128, "ok\u2003"),
    ],
)
def test_a_class_name_that_is_no_folder_name_everywhere_has_a_fault(name: str) -> None:
    assert image_folder.find_fault(name)


@pytest.mark.parametrize("name", ["ok", "thumbs up", "a.b", "console", "x" * 255, "é" * 127, "👌🏽", "שלום", "-1", "#"])
def test_a_usual_class_name_has_no_fault(name: str) -> None:
    assert image_folder.find_fault(name) is None


FOLDER_NAMES = CLASS_NAMES.filter(lambda name: image_folder.find_fault(name) is None)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(ODD_NAMES) | TEXTS)
def test_a_name_without_a_fault_is_one_folder(name: str) -> None:
    if image_folder.find_fault(name) is not None:
        return
    with tempfile.TemporaryDirectory() as folder:
        export(make_data([[Shown(name, (0, 0, 9, 9))]], [name], kept="crops"), image_folder.FORMAT, Path(folder))
        assert sorted(path.name for path in Path(folder, "train").iterdir()) == sorted([name, "metadata.parquet"])
        assert Path(folder, "train", name, "v-0.png").is_file()


@pytest.mark.extra
@pytest.mark.parametrize("kept", ["crops", "frames"])
def test_torchvision_numbers_classes_alike_in_every_part(tmp_path: Path, kept: str) -> None:
    folders = need_extra("torchvision").datasets
    export(make_data(CROPS, CLASSES, kept=kept, splits=PARTS), image_folder.FORMAT, tmp_path)
    numbers = {row["class_name"]: row["folder_index"] for row in json.loads((tmp_path / "classes.json").read_bytes())}
    for split in PARTS:
        part = folders.ImageFolder(str(tmp_path / split), allow_empty=True)
        assert part.class_to_idx == numbers
        assert all(Path(file).parent.name == part.classes[index] for file, index in part.imgs)
        with pytest.raises(FileNotFoundError, match="Found no valid file for the classes"):  # louder than wrong numbers
            folders.ImageFolder(str(tmp_path / split))


@pytest.mark.extra
@settings(deadline=None, max_examples=10)
@given(draw_data(kept=("crops",), one_object=True, class_names=FOLDER_NAMES))
def test_torchvision_and_datasets_read_odd_class_names(datasets: Any, data: ExportData) -> None:
    folders = need_extra("torchvision").datasets
    folded = [name.casefold() for name in data.classes]
    if len(set(folded)) < len(folded):
        return
    with tempfile.TemporaryDirectory() as folder:
        data = export(data, image_folder.FORMAT, Path(folder, "set"))
        for split, part in data.iterate_splits():
            found = folders.ImageFolder(f"{folder}/set/{split or 'train'}", allow_empty=True)
            names = {Path(file).name: found.classes[index] for file, index in found.imgs}
            assert names == {Path(row.file).name: row.class_name for row in part.images.itertuples()}
            if len(part.images):
                files = {"train": f"{split or 'train'}/**"}
                loaded = datasets.load_dataset(
                    "imagefolder", data_dir=f"{folder}/set", data_files=files, cache_dir=f"{folder}/cache"
                )["train"]
                assert [data.classes[label] for label in loaded["label"]] == part.images["class_name"].tolist()
                assert_equal_boxes(
                    {row["frame_path"]: [(data.classes[row["label"]], *to_corners(row["bbox"]))] for row in loaded},
                    part,
                )


# All three

KINDS = {kind.name: kind for kind in (huggingface.FORMAT, webdataset.FORMAT, image_folder.FORMAT)}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kept", ["crops", "frames"])
def test_the_same_export_has_the_same_bytes_also_when_written_twice(tmp_path: Path, name: str, kept: str) -> None:
    data = make_data(CROPS, CLASSES, kept=kept, splits=PARTS)
    for folder in ("a", "b", "b"):
        export(data, KINDS[name], tmp_path / folder)
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kept", ["crops", "frames"])
def test_an_export_without_pictures_is_written(tmp_path: Path, name: str, kept: str) -> None:
    export(make_data((), CLASSES, kept=kept, splits=PARTS), KINDS[name], tmp_path)
    assert not [file for file in read_files(tmp_path) if file.endswith((".png", ".parquet", ".tar"))]


@pytest.mark.parametrize("name", ["huggingface", "webdataset"])
def test_workers_can_be_sent_what_writes_a_shard(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    data = make_data(CROPS, CLASSES, kept="crops")
    head = ExportHead(data.classes, data.numbers, "crops")
    write, pictures, head = pickle.loads(pickle.dumps((kind.write_shard, make_pictures(data), head)))
    write(open_store(tmp_path), "a", pictures, head)
    assert (tmp_path / "a").stat().st_size > 1000


@pytest.mark.parametrize("name", ["huggingface", "webdataset"])
def test_a_failed_shard_leaves_no_file(name: str, tmp_path: Path) -> None:
    data = make_data(CROPS, CLASSES, kept="crops")
    pictures = make_pictures(data)
    broken = [*pictures, pictures[0]._replace(row=pictures[0].row | {"class_name": "none of the classes"})]
    write = KINDS[name].write_shard
    assert write is not None
    with pytest.raises(KeyError, match="none of the classes"):
        write(open_store(tmp_path), "a", broken, ExportHead(data.classes, data.numbers, "crops"))
    assert not read_files(tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("name", ["huggingface", "imagefolder"])
def test_many_samples_take_seconds(name: str, tmp_path: Path) -> None:
    work = """
import dataclasses, time
from export_data import make_many, place_pictures
from detectime.exports import huggingface, image_folder
from detectime.storage.store import open_store
kinds = {"huggingface": ("none", huggingface.FORMAT), "imagefolder": ("crops", image_folder.FORMAT)}
pictures, kind = kinds[sys.argv[1]]
data = place_pictures(dataclasses.replace(make_many(175_000), pictures=pictures), kind)
"""
    run = "start = time.process_time(); kind.write(data, open_store(sys.argv[2])); print(time.process_time() - start)"
    path = f"sys.path.insert(0, {str(Path(__file__).parent)!r})"
    megabytes, (seconds,) = measure_memory(f"{path}\n{work}", run, name, tmp_path)
    assert float(seconds) < 20
    assert megabytes < 400


@pytest.mark.extra
@pytest.mark.parametrize("name", KINDS)
def test_the_lines_of_the_dataset_card_load_the_set(datasets: Any, tmp_path: Path, name: str) -> None:
    for library in ("webdataset", "torchvision"):
        need_extra(library)
    export(make_data(CROPS, CLASSES, kept="crops"), KINDS[name], tmp_path)
    code = LOADING[name].code.format(split="train").replace(FOLDER, str(tmp_path))
    code += "\nimport json\nprint(sorted(name for name in globals() if not name.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = {"huggingface": "sample", "webdataset": "picture", "imagefolder": "class_name"}[name]
    assert f"'{expected}'" in done.stdout


def test_a_picture_is_stored_as_it_is(tmp_path: Path) -> None:
    data = make_data(CROPS, CLASSES, kept="crops")
    pictures = make_pictures(data, ".jpg")
    head = ExportHead(data.classes, data.numbers, "crops")
    webdataset.write_shard(open_store(tmp_path), "a.tar", pictures, head)
    huggingface.write_shard(open_store(tmp_path), "a.parquet", pictures, head)
    expected = [picture.encoded for picture in pictures]
    assert [content for name, content in read_tar(tmp_path / "a.tar") if name.endswith(".jpg")] == expected
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["image"]["bytes"] for row in rows] == expected
    with Image.open(io.BytesIO(rows[0]["image"]["bytes"])) as picture:
        assert picture.format == "JPEG"
