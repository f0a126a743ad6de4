"""One folder per class as labels, and which files are of one video or person."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import LABELS
from faults import make_config
from hypothesis import given
from hypothesis import strategies as st
from skips import need_extra

from detectime.labels import folders, frame_table, grouping
from detectime.labels.folders import SPLIT_FOLDER, hash_names, list_classes, read_folders
from detectime.labels.grouping import KINDS, Groups, group_files
from detectime.labels.tables import TableError
from detectime.paths import SAMPLE
from detectime.report.summary import describe_set
from detectime.report.verdict import judge_set
from detectime.runs import open_run
from detectime.sources import folder as folder_source
from detectime.sources import open_source
from detectime.sources.listing import Listing, list_source
from detectime.storage import run_tables

UUIDS = [f"3f2504e0-4f89-11d3-9a0c-0305e82c33{k:02}" for k in range(6)]


def make_listing(names: Sequence[str | bytes]) -> Listing:
    encoded = [name if isinstance(name, bytes) else name.encode() for name in names]
    return Listing(pa.array(encoded, pa.binary()), pa.array(map(str, range(len(names))), pa.string()))


def read(*names: str | bytes, labels: dict[str, int] | None = None, group_by: str | None = None) -> pd.DataFrame:
    return read_folders("pictures", make_listing(names), labels or {"ok": 4, "stop": 1, "thumbs_up": 7}, group_by)


def list_kinds(table: pd.DataFrame) -> dict[str, int]:
    return {note.kind: note.count for note in table.attrs["notes"]}


def group(*paths: str, group_by: str | None = None) -> Groups:
    return group_files(paths, [path.split("/")[0] for path in paths], group_by)


def list_groups(*paths: str) -> tuple[str, list[str]]:
    found = group(*paths)
    return found.kind, found.video_name.to_pylist()


# -- classes


def test_the_class_is_the_folder() -> None:
    table = read("stop/b.jpg", "ok/a.jpg")
    assert table["frame_path"].tolist() == ["ok/a.jpg", "stop/b.jpg"]
    assert table["class_name"].tolist() == ["ok", "stop"]
    assert table["label"].tolist() == [4, 1]
    assert table["stamp"].tolist() == ["1", "0"]
    assert table["on_disk"].all()
    assert table["frame_id"].dtype == "int64"
    assert SPLIT_FOLDER not in table
    assert table.attrs["unlisted"] == 0
    assert list_kinds(table)["absent_class"] == 1


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ([f"{split}/{name}/{split}.jpg" for split in ("train", "val") for name in ("ok", "stop")], ["train", "val"]),
        (["Train/ok/1.jpg", "Valid/stop/2.jpg"], ["Train", "Valid"]),
        (["set/asl_train/asl_train/ok/1.jpg", "set/asl_test/stop/1.jpg"], ["asl_test", "asl_train"]),
        (["ok/1.jpg", "stop/1.jpg", "test/ok/2.jpg"], ["", "test"]),
        (["hagrid/train_val_ok/1.jpg", "hagrid/train_val_stop/1.jpg"], ["train_val"]),
    ],
)
def test_the_folder_of_a_split_is_no_class(names: list[str], splits: list[str]) -> None:
    table = read(*names)
    assert sorted(set(table["class_name"])) == ["ok", "stop"]
    assert sorted(set(table[SPLIT_FOLDER])) == splits
    assert list_kinds(table)["split_folder"] == (table[SPLIT_FOLDER] != "").sum()
    assert list_classes(make_listing(names)) == ["ok", "stop"]


def test_a_class_may_be_called_test() -> None:
    table = read("test/1.jpg", "ok/2.jpg", labels={"test": 1, "ok": 2})
    assert table["class_name"].tolist() == ["ok", "test"]
    assert list_classes(make_listing(["test/1.jpg", "ok/2.jpg"])) == ["ok", "test"]


def test_the_class_may_lie_below_the_person() -> None:
    table = read(
        "leap/00/ok/frame_00_01_0001.png", "leap/00/stop/frame_00_02_0001.png", "leap/01/ok/frame_01_01_0001.png"
    )
    assert table["class_name"].tolist() == ["ok", "stop", "ok"]
    assert table["video_name"].tolist() == ["00", "00", "01"]


def test_a_class_inside_another_is_told() -> None:
    table = read("ok/1.jpg", "ok/anna/1.jpg", "ok/stop/2.jpg", "ok/day1/stop/3.jpg", "stop/stop/4.jpg")
    assert table["class_name"].tolist() == ["ok"] * 4 + ["stop"]
    note = next(note for note in table.attrs["notes"] if note.kind == "two_classes")
    assert (note.count, note.example) == (2, "ok/day1/stop/3.jpg")


def test_what_is_no_image_of_a_class_is_left_out_and_told() -> None:
    names = ["ok/a.jpg", "ok/.DS_Store", "ok/Thumbs.db", "__MACOSX/ok/._a.jpg", ".cache/ok/b.jpg", "readme.md"]
    table = read(*names, "top.jpg", "stop/clip.MP4", "docs/x.pdf", b"ok/\xff.jpg")
    assert table["frame_path"].tolist() == ["ok/a.jpg"]
    kinds = {"hidden": 4, "other_files": 2, "no_class": 1, "videos": 1, "not_utf8": 1}
    assert list_kinds(table).items() >= kinds.items()
    assert table.attrs["unlisted"] == 0  # the notes tell of each already


def test_a_file_without_a_known_ending_is_read_since_its_content_decides() -> None:
    assert read("ok/a", "ok/b.jfif", "ok/c.dng", "ok/frame.0001")["frame_path"].size == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["ok/a.jpg", "trash/b.jpg", "trash/c.jpg"],
            r"1 folder is of no class: 'trash' \(2 files\); accepted: ok, stop",
        ),
        (["ok/a.jpg", "Thumbs Up/b.jpg"], r"'Thumbs Up' \(1 file; did you mean 'thumbs_up'\?\)"),
        (["OK/a.jpg", "ok/b.jpg"], r"'OK' \(1 file; did you mean 'ok'\?\)"),
        (["train/ok/a.jpg", "train/stpo/b.jpg"], r"'train/stpo' \(1 file; did you mean 'stop'\?\)"),
        (
            ["a/1.jpg", "b/2.jpg"],
            r"2 folders are of no class: 'a' \(1 file\), 'b' \(1 file\).*add their names to `labels`",
        ),
        (
            ["1.jpg", "2.jpg"],
            "no image lies in a folder of a class, as in ok/1.jpg: there are 2 images such as '1.jpg'",
        ),
        (
            ["01_ok/a.jpg", "ok (1)/a.jpg", "ok - Copy/a.jpg", "stop_1/a.jpg", "4/a.jpg"],
            r"'01_ok' \(1 file; did you mean 'ok'\?\), '4' \(1 file; did you mean 'ok', whose number is 4\?\), "
            r"'ok \(1\)' \(1 file; did you mean 'ok'\?\), 'ok - Copy' .*'ok'\?\), 'stop_1' .*'stop'\?\)",
        ),
        (["ok/clip.mp4"], "there are no images: 1 file is a video.*source_type: videos"),
        ([], "there are no files"),
    ],
)
def test_other_folders_are_refused_by_name(names: list[str], message: str) -> None:
    with pytest.raises(TableError, match=f"^pictures: .*{message}"):
        read(*names)


def test_images_in_no_folder_get_the_remedy_that_fits(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"'ok' is called as a class itself: set `images` to the folder above"):
        read_folders("/data/ok", make_listing(["1.jpg"]), {"ok": 4})
    (tmp_path / "ok.zip").write_bytes(b"")
    with pytest.raises(
        TableError, match=r"unpack each archive, such as 'ok\.zip', into a folder that is called as its"
    ):
        read_folders(str(tmp_path), make_listing(["1.jpg"]), {"ok": 4})


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["images/ok/1.jpg", "masks/ok/1.png", "images/stop/2.jpg", "masks/stop/2.png"], 2),
        (["ok/rgb/1.jpg", "ok/depth/1.png", "stop/rgb/1.jpg", "stop/depth/2.png"], 2),
        (["ok/1.jpg", "ok/1_mask.png", "stop/1.jpg"], 2),
        (["masks/ok/1.png", "masks/stop/2.png"], 2),  # they are all that there is
        (["ok/1.jpg", "ok/2_depth.png"], 2),
    ],
)
def test_masks_of_other_images_are_left_out(names: list[str], pictures: int) -> None:
    table = read(*names)
    assert len(table) == pictures
    assert list_kinds(table).get("masks", 0) == len(names) - pictures


@pytest.mark.parametrize("name", ["ok/@eaDir/1.jpg/SYNO.jpg", "$RECYCLE.BIN/1.jpg", "lost+found/1.jpg"])
def test_files_of_the_system_are_no_images(name: str) -> None:
    table = read("ok/1.jpg", name, "ok/a.docx", "ok/b.cbz")
    assert table["frame_path"].tolist() == ["ok/1.jpg"]
    assert list_kinds(table).items() >= {"hidden": 1, "other_files": 2}.items()


def test_a_webdataset_is_named() -> None:
    (note,) = [note for note in read("ok/1.jpg", "ok/1.json").attrs["notes"] if note.kind == "webdataset"]
    assert "labels_type: webdataset" in str(note)
    assert "webdataset" not in list_kinds(read("ok/1.jpg", "ok/2.jpg", "ok/3.jpg", "train.json"))


def test_a_folder_without_images_need_not_be_a_class() -> None:
    assert len(read("ok/a.jpg", "annotations/ok.json", "models/best.pt")) == 1


@pytest.mark.parametrize("name", ["Zoe\u0308", "Zo\u00eb", "Zo\u00eb "])
def test_unicode_forms_of_a_class_are_one(name: str) -> None:
    table = read(f"{name}/1.jpg", "ok/2.jpg", labels={"Zo\u00eb": 1, "ok": 2})
    assert set(table["class_name"]) == {"Zo\u00eb", "ok"}
    assert f"{name}/1.jpg" in set(table["frame_path"])


def test_classes_of_folders_are_listed() -> None:
    assert list_classes(make_listing(["set/b/x/1.jpg", "set/a/2.jpg", "set/readme.txt"])) == ["a", "b"]
    with pytest.raises(TableError, match="there are no folders with images"):
        list_classes(make_listing(["1.jpg"]))


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (["{00,01,02}/{01_palm,02_l,03_fist}"], ["01_palm", "02_l", "03_fist"]),
        (["{user_1,user_2}/{hund,katze}"], ["hund", "katze"]),
        (["{anna,ben}/{A,B,C}"], ["A", "B", "C"]),
        (["{ok,stop}/{anna,ben}"], ["ok", "stop"]),
        (["{train,test}/{anna,ben}/{A,B}"], ["A", "B"]),
        (["{anna,ben}/session{1,2}/{ok,stop}"], ["ok", "stop"]),
        (["{hund,katze}/{s01,s02}"], ["hund", "katze"]),
        (["{hund,katze}/{train,test}"], ["hund", "katze"]),
        (["{hund,katze}/{images,raw}"], ["hund", "katze"]),
        (["hund/anna", "katze/ben"], ["hund", "katze"]),
        (["{hund,katze}/{2024-05-01,2024-05-02}"], ["hund", "katze"]),
        (["repo/data/{train,test}/{A,B}", "repo/figures"], ["A", "B"]),
        (["data/{hund,katze}", "docs"], ["hund", "katze"]),
        (["data", "figures"], ["data", "figures"]),
    ],
)
def test_the_level_of_the_classes_is_found(paths: list[str], classes: list[str]) -> None:
    names = [f"{folder}/{k}.jpg" for path in paths for folder in expand(path) for k in (1, 2)]
    assert list_classes(make_listing(names)) == classes
    table = read(*names, labels={name: number for number, name in enumerate(classes)})
    assert set(table["class_name"]) == set(classes)


def test_classes_in_and_beside_one_folder_are_a_question() -> None:
    with pytest.raises(TableError, match=r"could be 'images', 'fuchs' or 'hund', 'katze' …, since .* in and beside"):
        list_classes(make_listing([f"{folder}/1.jpg" for folder in expand("{images/hund,images/katze,fuchs,maus}")]))


@pytest.mark.parametrize(("path", "other"), [("{train,test}/{hund,katze}", "figures"), ("data/{hund,katze}", "docs/a")])
def test_a_folder_beside_those_of_classes_is_refused_by_name(path: str, other: str) -> None:
    names = [f"{folder}/1.jpg" for folder in expand(path)] + [f"{other}/1.jpg"]
    assert list_classes(make_listing(names)) == ["hund", "katze"]
    with pytest.raises(TableError, match=rf"1 folder is of no class: '{other}' \(1 file\).*Rename or move it"):
        read(*names, labels={"hund": 0, "katze": 1})


def expand(path: str) -> list[str]:
    """Return the paths that braces stand for, as a shell does."""
    before, brace, rest = path.partition("{")
    if not brace:
        return [path]
    inside, _, after = rest.partition("}")
    return [f"{before}{name}{end}" for name in inside.split(",") for end in expand(after)]


@pytest.mark.parametrize("path", ["{hund,katze}/{anna,ben}", "{0,1}/{anna,ben}", "{A,B}/{ok,stop}"])
def test_two_levels_that_could_be_classes_are_a_question(path: str) -> None:
    with pytest.raises(TableError, match=r"could be '.*', '.*' or '.*', '.*' …, since.*list the names of the classes"):
        list_classes(make_listing([f"{folder}/1.jpg" for folder in expand(path)]))


def test_the_hash_does_not_depend_on_the_order() -> None:
    names = [f"ok/{k}.jpg" for k in range(20)]
    assert hash_names(make_listing(names)) == hash_names(make_listing(names[::-1]))
    assert hash_names(make_listing(names)) != hash_names(make_listing(names[1:]))
    assert read(*names).attrs["labels_sha256"] == hash_names(make_listing(names))


def test_many_files_take_seconds() -> None:
    names = [f"c{k % 30}/anna{k % 300}_{k:07}.jpg" for k in range(175_000)]
    labels = {f"c{k}": k for k in range(30)}
    start = time.process_time()
    table = read_folders("pictures", make_listing(names), labels)
    assert len(table) == 175_000
    assert table["video_name"].nunique() == 300
    assert time.process_time() - start < 20  # about one second alone


def test_folders_of_the_sample_give_the_samples_table(tmp_path: Path) -> None:
    for file in (SAMPLE / "TRAIN_DATA").rglob("*.jpg"):
        name, _, person = file.parent.name.rpartition("_")
        place = tmp_path / name / person / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    table = read_folders(str(tmp_path), list_source(open_source(str(tmp_path))), LABELS)
    expected = pd.read_csv(SAMPLE / "train.csv")
    assert table["class_name"].value_counts().to_dict() == expected["class_name"].value_counts().to_dict()
    assert table["video_name"].nunique() == 2
    command = [sys.executable, "-m", "detectime", "run", "--images", str(tmp_path), "--labels-type", "folders"]
    done = subprocess.run([*command, "--output", str(tmp_path / "out"), "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 groups by the folder below that of the class" in done.stdout


@pytest.mark.parametrize("kind", ["folder", "archive", pytest.param("bucket", marks=pytest.mark.extra)])
def test_folders_of_any_source(kind: str, tmp_path: Path) -> None:
    names = ["train/ok/anna/1.jpg", "train/stop/anna/1.jpg", "val/ok/ben/2.jpg", "val/ok/ben/note.txt"]
    place = str(tmp_path / "images")
    if kind == "archive":
        place = str(tmp_path / "frames.zip")
        with zipfile.ZipFile(place, "w") as archive:
            for name in names:
                archive.writestr(name, b"image")
    elif kind == "bucket":
        fsspec = need_extra("fsspec")
        place = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").pipe({f"/{tmp_path.name}/{name}": b"image" for name in names})
    else:
        for name in names:
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).write_bytes(b"image")
    table = read_folders(place, list_source(open_source(place)), {"ok": 4, "stop": 1})
    assert table["frame_path"].tolist() == names[:3]
    assert table["video_name"].tolist() == ["anna", "anna", "ben"]
    assert table[SPLIT_FOLDER].tolist() == ["train", "train", "val"]


@pytest.mark.parametrize("name", ["t2.zip.part", "t2.zip.crdownload", "t2.zip.1", "t2", "read.me"])
def test_files_beside_archives_are_told(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t1.zip", "w") as archive:
        archive.writestr("ok/1.jpg", b"image")
    content = (tmp_path / "t1.zip").read_bytes()
    (tmp_path / name).write_bytes(b"text" if name == "read.me" else content[:30] if "." in name else content)
    (tmp_path / "labels.csv").write_text("a")
    table = read_folders(str(tmp_path), list_source(open_source(str(tmp_path))), {"ok": 4})
    (note,) = [note for note in table.attrs["notes"] if note.kind == "beside_archives"]
    assert (note.count, note.example) == (2, "labels.csv" if name == "read.me" else name)


def test_an_archive_without_an_ending_gets_its_remedy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "download", "w") as archive:
        archive.writestr("ok/1.jpg", b"image")
    with pytest.raises(TableError, match=r"'download' is an archive.*call it \.zip"):
        read_folders(str(tmp_path), list_source(open_source(str(tmp_path))), {"ok": 4})


@pytest.mark.extra
def test_what_is_no_video_is_told_where_videos_lie_in_folders(tmp_path: Path) -> None:
    av = need_extra("av")
    (tmp_path / "ok").mkdir()
    with av.open(str(tmp_path / "ok" / "anna.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    for name in ("ok/bad.mp4", "ok/x.jpg", "ok/.hidden"):
        (tmp_path / name).write_bytes(b"x" * 100)
    table = read_folders(str(tmp_path), list_source(open_source(str(tmp_path), "videos")), {"ok": 4})
    notes = {note.kind: note for note in table.attrs["notes"]}
    assert (notes["broken_videos"].count, notes["broken_videos"].example) == (1, "ok/bad.mp4")
    assert (notes["no_videos"].count, notes["no_videos"].example) == (1, "ok/x.jpg")


@pytest.mark.extra
@pytest.mark.parametrize(("every", "numbers"), [(None, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), ("0.3 s", [0, 3])])
def test_every_nth_frame_of_videos_in_folders_is_taken(
    every: int | str | None, numbers: list[int], tmp_path: Path
) -> None:
    av = need_extra("av")
    for name in ("ok", "stop"):
        (tmp_path / name).mkdir()
        with av.open(str(tmp_path / name / "anna.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 32
            for _ in range(5):
                image = np.zeros((32, 32, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    config = make_config(images=str(tmp_path), labels_type="folders", source="videos", every=every)
    table = frame_table.read_labels(config, open_source(str(tmp_path), "videos"))
    assert table["frame_path"].tolist() == [f"{name}/anna.mp4/{k:06}" for name in ("ok", "stop") for k in numbers]
    assert table.attrs["made_with"]["every"] == every


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ok/anna/1.jpg", "ok/ben/1.jpg", "stop/ben/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    open_folder = folder_source._open_folder

    def refuse(path: str) -> AbstractContextManager[int]:
        if path.endswith("ben"):  # the administrator, as whom tests may run, may read any
            raise PermissionError(13, "Permission denied")
        return open_folder(path)

    monkeypatch.setattr(folder_source, "_open_folder", refuse)
    table = read_folders(str(tmp_path), list_source(open_source(str(tmp_path))), {"ok": 4, "stop": 1})
    assert table["frame_path"].tolist() == ["ok/anna/1.jpg"]
    note = next(note for note in table.attrs["notes"] if note.kind == "left_out_folders")
    assert (note.count, note.example) == (2, "ok/ben")


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    """As in a clone of DataLad whose files were not fetched."""
    (tmp_path / "ok").mkdir()
    for name in ("ok/1.jpg", "ok/2.jpg"):
        (tmp_path / name).symlink_to("nowhere.jpg")
    assert "lists nothing; 2 links lead to no file, and are left out (the first: 'ok/1.jpg')" in str(
        list_source(open_source(str(tmp_path))).unreachable
    )
    (tmp_path / "ok" / "3.jpg").touch()
    table = read_folders(str(tmp_path), list_source(open_source(str(tmp_path))), {"ok": 4})
    listing = list_source(open_source(str(tmp_path)))
    assert [(note.kind, note.count) for note in listing.notes] == [("left_out_links", 2)]
    assert list_kinds(table)["left_out_links"] == 2


# -- groups


@pytest.mark.parametrize(
    ("paths", "kind", "groups"),
    [
        (["ok/anna/0001.jpg", "stop/anna/0001.jpg", "ok/ben/day1/1.jpg"], "folder", ["anna", "anna", "ben"]),
        (["ok/Anna/1.jpg", "stop/anna /1.jpg"], "folder", ["Anna", "Anna"]),
        (["ok/ok/x.jpg", "stop/stop/y.jpg"], "file", ["ok/ok/x", "stop/stop/y"]),
        (["ok/images/x.jpg", "stop/val2017/y.jpg"], "file", ["ok/images/x", "stop/val2017/y"]),
        (["ok/anna_0001.jpg", "ok/anna-02.jpg", "stop/anna (3).jpg", "ok/ben1.jpg"], "prefix", ["anna"] * 3 + ["ben"]),
        (["ok/user12_ok_3.jpg", "stop/user12_stop_3.jpg"], "prefix", ["user12", "user12"]),
        (["ok/user_1.jpg", "stop/user_1.jpg", "ok/user_2.jpg"], "prefix", ["user_1", "user_1", "user_2"]),
        (["ok/video_12_01.jpg", "ok/video_12_02.jpg", "ok/video_13_1.jpg"], "prefix", ["video_12"] * 2 + ["video_13"]),
        (["ok/anna_mp4-1_jpg.rf.aaaaaaaaaaaaaaaaaaaaaaaa.jpg", "ok/anna_mp4-2.jpg"], "prefix", ["anna"] * 2),
        (["ok/1_anna_1.jpg", "ok/2_anna_1.jpg"], "prefix", ["anna"] * 2),
        (["ok/anna_left_1.jpg", "ok/anna_right_2.jpg"], "prefix", ["anna", "anna"]),
        (["A/A1.jpg", "A/A2.jpg", "A/A3.jpg", "B/B1.jpg", "B/B2.jpg"], "numbers", ["A/A1"] * 3 + ["B/B1"] * 2),
        (["ok/ok_1.jpg", "ok/ok_2.jpg", "stop/stop_1.jpg"], "numbers", ["ok/ok_1"] * 2 + ["stop/stop_1"]),
        (["ok/IMG_01.JPG", "ok/IMG_02.JPG", "ok/IMG_13.JPG"], "numbers", ["ok/IMG_01"] * 2 + ["ok/IMG_13"]),
        (["ok/IMG_01.JPG", "ok/IMG_02.JPG", "ok/IMG_12.JPG"], "numbers", ["ok/IMG_01"] * 3),
        (["train/ok/1.jpg", "train/ok/2.jpg", "test/ok/1.jpg"], "numbers", ["train/ok/1"] * 2 + ["test/ok/1"]),
        (["ok/P1010001.JPG", "ok/P1010002.JPG"], "numbers", ["ok/P1010001"] * 2),
        (["ok/2024-05-01 10-22-31.jpg", "stop/2024-05-01 10-22-40.jpg", "ok/2024-05-01 12-00-00.jpg"], "numbers",
         ["2024-05-01 10-22-31"] * 2 + ["2024-05-01 12-00-00"]),
        (["ok/IMG_20240501_102231.jpg", "ok/PXL_20240501_102232123.jpg"], "numbers", ["IMG_20240501_102231"] * 2),
        (["ok/1683023456.jpg", "ok/1683023457123.jpg"], "numbers", ["1683023456"] * 2),
        ([f"ok/{uuid}.jpg" for uuid in UUIDS], "file", [f"ok/{uuid}" for uuid in UUIDS]),
        (["ok/17.jpg", "ok/4711.jpg", "ok/90210.jpg"], "file", ["ok/17", "ok/4711", "ok/90210"]),
        (["ok/x.jpg", "stop/y.jpg"], "file", ["ok/x", "stop/y"]),
        ([f"ok/img_jpg.rf.{k * 32}.jpg" for k in "ab"] + ["ok/b.jpg"], "file", ["ok/img", "ok/img", "ok/b"]),
        (["ok/cam1/anna/1.jpg", "ok/cam2/anna/1.jpg", "stop/cam1/ben/1.jpg"], "folder", ["anna"] * 2 + ["ben"]),
        (["ok/day1/anna/1.jpg", "ok/day2/anna/1.jpg", "ok/day1/ben/1.jpg"], "folder", ["anna"] * 2 + ["ben"]),
        (["ok/2024-05-01/anna/1.jpg", "stop/2024-05-02/anna/1.jpg"], "folder", ["anna"] * 2),
        (["ok/anna/day1/1.jpg", "ok/ben/day1/1.jpg"], "folder", ["anna", "ben"]),
        (["ok/video_1/a/1.jpg", "ok/video_1/b/1.jpg", "ok/video_2/c/1.jpg"], "folder", ["video_1"] * 2 + ["video_2"]),
        (["ok/left/x.jpg", "ok/right/x.jpg", "ok/left/y.jpg"], "file", ["ok/x"] * 2 + ["ok/y"]),
        (["ok/original/0.jpg", "ok/augmented/0.jpg", "ok/original/1.jpg"], "numbers", ["ok/0"] * 3),
        (["left/x.jpg", "right/y.jpg"], "file", ["left/x", "right/y"]),
        (["ok/anna_0.jpg", "ok/anna_0_flip.jpg", "ok/anna_1_rot90.jpg", "ok/ben_0_aug1.jpg"], "prefix",
         ["anna"] * 3 + ["ben"]),
        (["ok/x.jpg", "ok/x_hflip_crop.jpg", "ok/y.jpg"], "file", ["ok/x"] * 2 + ["ok/y"]),
        (["ok/IMG_4001.jpg", "ok/IMG_4001 (1).jpg", "ok/IMG_E4001.jpg", "ok/IMG_4002.jpg", "ok/IMG_4070.jpg"],
         "numbers", ["ok/IMG_4001"] * 4 + ["ok/IMG_4070"]),
        (["ok/x.jpg", "ok/x - Copy.jpg", "ok/x copy 2.jpg", "ok/y (1).jpg"], "file", ["ok/x"] * 3 + ["ok/y (1)"]),
        ([f"ok/anna-000{k}-4a5d8ec4b{k}.jpg" for k in (1, 2)], "prefix", ["anna", "anna"]),
    ],
)  # fmt: skip
def test_groups_are_recognised(paths: list[str], kind: str, groups: list[str]) -> None:
    classes = [next(part for part in path.split("/") if part not in ("train", "test")) for path in paths]
    found = group_files(paths, classes)
    assert (found.kind, found.video_name.to_pylist()) == (kind, groups)


@pytest.mark.parametrize(
    ("paths", "nested"),
    [
        (["ok/studio/anna/1.jpg", "ok/home/anna/1.jpg", "ok/home/ben/1.jpg"], ["anna"]),
        (["ok/anna/day1/1.jpg", "ok/ben/day1/1.jpg", "ok/ben/01/1.jpg", "ok/anna/01/1.jpg"], []),
        (["ok/day1/anna/1.jpg", "ok/day2/anna/1.jpg"], []),
        (["set/studio/anna/1.jpg", "set/home/anna/1.jpg", "set/home/ben/1.jpg"], ["anna"]),
        (["anna/ok/1.jpg", "ben/ok/1.jpg"], []),
    ],
)
def test_folders_in_several_groups_are_noted(paths: list[str], nested: list[str]) -> None:
    notes = [note for note in group_files(paths, ["ok"] * len(paths)).notes if note.kind == "nested"]
    assert [note.example for note in notes] == nested


def test_copies_do_not_make_a_prefix() -> None:
    names = ["hund", "katze", "maus", "vogel"]
    found = group(*[f"ok/{name}{copy}.jpg" for name in names for copy in ("", "_flip", "_rot90")])
    assert (found.kind, found.video_name.to_pylist()[::3]) == ("file", [f"ok/{name}" for name in names])
    assert grouping.NO_GROUPS in {note.kind for note in found.notes}


def test_a_prefix_within_the_name_of_a_class_is_no_class() -> None:
    found = group_files(["images/palm/pA_0020.jpg", "images/up/pA_0020.jpg"], ["palm", "up"])
    assert (found.kind, found.video_name.to_pylist()) == ("prefix", ["pA", "pA"])


@pytest.mark.parametrize(
    ("paths", "is_unknown"),
    [
        (["ok/1.jpg", "ok/2.jpg", "stop/1.jpg", "stop/2.jpg"], True),
        (["ok/1.jpg", "ok/2.jpg", "ok/90.jpg", "ok/91.jpg", "stop/1.jpg", "stop/2.jpg", "like/1.jpg"], True),
        ([f"{name}/{k}.jpg" for name in ("ok", "stop") for k in (1, 2, 3, 70, 71, 72)], False),
        ([f"{part}/{name}/{k}.jpg" for part in ("train", "test") for name in ("ok", "stop") for k in (1, 2)], True),
        ([f"{name}/{part}_{k}.jpg" for part in ("Training", "Test") for name in ("ok", "stop") for k in (1, 2)], True),
        ([f"train/{name}/{k}.jpg" for name in ("ok", "stop") for k in range(9)] + ["test/ok/1.jpg", "test/ok/50.jpg"],
         True),
        (["ok/1.jpg", "ok/2.jpg"], False),  # one class
        (["ok/2024-05-01 10-22-31.jpg", "stop/2024-05-01 10-22-40.jpg"], False),  # one recording of both
        (["ok/anna_1.jpg", "ok/anna_2.jpg", "stop/anna_1.jpg"], False),
    ],
)  # fmt: skip
def test_one_recording_per_class_says_nothing_of_who_is_in_it(paths: list[str], is_unknown: bool) -> None:
    classes = [next(part for part in path.split("/") if part not in ("train", "test")) for path in paths]
    found = group_files(paths, classes)
    notes = {note.kind: note for note in found.notes}
    assert notes.keys() == {"groups", *([grouping.NO_GROUPS] if is_unknown else [])}
    if is_unknown:
        assert "cannot know who is who" in str(notes[grouping.NO_GROUPS])
        assert notes[grouping.NO_GROUPS].count == len(paths)


def test_a_group_of_numbers_keeps_its_name_when_it_grows() -> None:
    names = [f"ok/{k:04}.jpg" for k in range(1, 6)]
    assert set(list_groups(*names)[1]) == set(list_groups(*names, "ok/0006.jpg")[1]) == {"ok/0001"}


def test_the_note_says_kind_number_example_and_key() -> None:
    (note,) = group("ok/anna_1.jpg", "ok/anna_2.jpg", "stop/ben_1.jpg").notes
    assert (note.kind, note.count, note.example) == ("groups", 2, "anna")
    assert "by the beginning of the file names; for others set data.group_by" in str(note)


def test_spellings_of_a_files_name_are_one_group() -> None:
    found = group("ok/1", "ok/1 ", "ok/x")
    assert found.video_name.to_pylist() == ["ok/1", "ok/1", "ok/x"]
    assert found.frame_id.tolist() == [0, 1, 0]


def test_files_that_do_not_fit_are_their_own_groups_and_noted() -> None:
    found = group("ok/anna/1.jpg", "ok/anna/2.jpg", "ok/3.jpg")
    assert found.video_name.to_pylist() == ["anna", "anna", "ok/3"]
    assert {note.kind: note.count for note in found.notes} == {"groups": 1, "ungrouped": 1}


def test_each_file_alone_is_noted() -> None:
    (note,) = group(*[f"ok/{uuid}.jpg" for uuid in UUIDS]).notes
    assert (note.kind, note.count) == (grouping.NO_GROUPS, 6)
    assert "a split cannot know who is who" in str(note)


@pytest.mark.parametrize("group_by", KINDS)
def test_a_kind_is_taken_that_is_asked_for(group_by: str) -> None:
    found = group("ok/anna/ben_0001.jpg", "ok/anna/ben_0002.jpg", "ok/anna/carl_0003.jpg", group_by=group_by)
    expected = {
        "folder": ["anna"] * 3,
        "prefix": ["ben", "ben", "carl"],
        "numbers": ["ok/anna/ben_0001"] * 2 + ["ok/anna/carl_0003"],
        "file": ["ok/anna/ben_0001", "ok/anna/ben_0002", "ok/anna/carl_0003"],
    }
    assert (found.kind, found.video_name.to_pylist()) == (group_by, expected[group_by])


@pytest.mark.parametrize(
    ("group_by", "path"), [("folder", "ok/1.jpg"), ("prefix", "ok/1.jpg"), ("numbers", "ok/x.jpg")]
)
def test_a_kind_that_no_file_fits_is_refused(group_by: str, path: str) -> None:
    with pytest.raises(TableError, match=f"data.group_by = {group_by}: no file has .*'{path}'.*or leave group_by out"):
        group(path, group_by=group_by)


def test_frame_ids_are_numbers_in_names_or_positions() -> None:
    assert group("ok/anna_7.jpg", "ok/anna_09.jpg").frame_id.tolist() == [7, 9]
    assert group("ok/anna_7.jpg", "stop/anna_7.jpg", "ok/anna_9.jpg").frame_id.tolist() == [0, 2, 1]
    assert group("ok/anna/x.jpg", "ok/anna/y.jpg").frame_id.tolist() == [0, 1]
    assert group("ok/v/3.jpg", "ok/v/99999999999999999999.jpg").frame_id.tolist() == [1, 0]


NAMES = st.from_regex(
    r"(?:(?:train|test)/)?(?:ok|stop)/(?:anna/|B/)?[a-cA1-9_ ()ë.-]{1,8}(?:\.jpg|\.png)?", fullmatch=True
)


@given(st.lists(NAMES, min_size=1, max_size=12, unique=True), st.sampled_from([None, *KINDS]), st.randoms())
def test_every_file_is_in_one_group_whatever_the_order(
    paths: list[str], group_by: str | None, shuffler: random.Random
) -> None:
    def find(order: list[str]) -> dict[str, tuple[str, int]] | str:
        classes = ["ok" if "ok/" in path else "stop" for path in order]
        try:
            found = group_files(order, classes, group_by)
        except TableError as error:
            return str(error)
        assert found.kind in KINDS
        assert found.frame_id.dtype == "int64"
        assert found.video_name.null_count == 0
        assert len(found.video_name) == len(order)
        groups = found.video_name.to_pylist()
        assert len(set(zip(groups, found.frame_id.tolist(), strict=True))) == len(order)  # no number twice in a group
        return dict(zip(order, zip(groups, found.frame_id.tolist(), strict=True), strict=True))

    shuffled = list(paths)
    shuffler.shuffle(shuffled)
    assert find(paths) == find(shuffled)


# -- what a report says


def test_the_verdict_says_that_nobody_knows_who_is_who(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("ok_01", "stop_01"):
        for number, uuid in enumerate(UUIDS[:3], 1):
            place = images / name.partition("_")[0] / f"{uuid}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((SAMPLE / "TRAIN_DATA" / name / f"{number:04}.jpg").read_bytes())
    command = [sys.executable, "-m", "detectime", "run", "--images", str(images), "--labels-type", "folders"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out"), "--workers", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "out")
    assert run.frames["video_name"].nunique() == 6
    texts = [finding.text for finding in judge_set(describe_set(run, run.outcomes))]
    assert any(text.startswith("Nothing says who is in 6 files") and "who is who" in text for text in texts)
    assert run_tables.read_frames(run.store) is not None
    assert folders.hash_names(list_source(open_source(str(images)))) == run.frames.attrs["labels_sha256"]
