"""CVAT for images: what is written, what is read, and corrections that come back as decisions."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LABELS, measure_memory
from export_data import CLASS_NAMES, TEXTS, Shown, draw_data, make_data, make_many, place_pictures
from finished_runs import make_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectime.config import PairingConfig
from detectime.cvat_decisions import import_cvat
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, DecisionError
from detectime.exports import cvat as exports
from detectime.exports.contract import ExportConfig, ExportData, ExportError
from detectime.exports.export import export_run
from detectime.exports.samples_csv import read_samples_csv
from detectime.judgements import judge_frame
from detectime.labels.cvat import CvatAnnotations, read_cvat
from detectime.labels.tables import TableError
from detectime.notes import Note
from detectime.outcomes import pair_run
from detectime.pairing import get_boxes
from detectime.paths import SAMPLE
from detectime.runs import FinishedRun, open_run
from detectime.schema import CORNERS, DETECTIONS, SAMPLES
from detectime.storage import run_tables
from detectime.storage.store import open_store

HOLDABLE = CLASS_NAMES.filter(lambda name: exports.find_fault(name) is None)
BOX = '<box label="ok" source="manual" occluded="0" xtl="1.00" ytl="2.00" xbr="30.00" ybr="40.00" z_order="0"></box>'


def write(data: ExportData, folder: Path) -> Path:
    """Write an export without its pictures; returns its annotations."""
    exports.FORMAT.write(data, open_store(folder))
    return folder / exports.FILE_NAME


def write_text(folder: Path, *images: str, meta: str = "") -> Path:
    """Write a file with these elements of pictures."""
    file = folder / "returned.xml"
    body = "".join(images)
    file.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}{body}</annotations>\n'
    )
    return file


def make_image(content: str = BOX, name: str = "a.jpg", size: str = 'width="640" height="480"') -> str:
    """Make the element of a picture."""
    return f'<image id="0" name="{name}" {size}>\n{content}\n</image>\n'


def list_boxes(found: CvatAnnotations) -> list[tuple[Any, ...]]:
    """List picture, label and corners of each box."""
    names = found.images["name"].to_numpy(object)[found.boxes["image"].to_numpy()]
    return list(zip(names, found.boxes["label"], *(found.boxes[corner] for corner in CORNERS), strict=True))


def expect_boxes(data: ExportData, names: list[str]) -> list[tuple[Any, ...]]:
    """List picture, class and corners of each box that was exported, picture by picture in the order of the names."""
    rows = data.objects.assign(name=[names[image] for image in data.objects["image"]])
    rows = rows.sort_values("name", kind="stable", key=lambda column: column.astype(object))
    return list(zip(rows["name"], rows["class_name"], *(rows[corner] for corner in CORNERS), strict=True))


def refuse(file: Path) -> str:
    """Read a file that must be refused; returns the message, which names the file."""
    with pytest.raises(TableError) as refusal:
        read_cvat(file)
    message = str(refusal.value)
    assert message.startswith(str(file))
    return message.removeprefix(str(file))


# -- what is written


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    data = place_pictures(make_data(kept="frames"), exports.FORMAT)
    found = read_cvat(write(data, tmp_path))
    names = [file.removeprefix("images/") for file in data.images["file"]]
    assert list_boxes(found) == expect_boxes(data, names)
    assert found.images["name"].tolist() == names
    assert found.images[["width", "height"]].to_numpy().tolist() == [[640, 480]] * 3
    assert found.labels == data.classes
    assert found.notes == ()
    assert found.boxes["source"].tolist() == ["auto", "auto", "manual"]  # a person drew the last one


def test_the_text(tmp_path: Path) -> None:
    data = place_pictures(make_data([(Shown("ok", (1.5, 2.0, 5.1, 40.0)),), ()], ["ok"], kept="frames"), exports.FORMAT)
    assert write(data, tmp_path).read_text() == (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        "<annotations>\n"
        "  <version>1.1</version>\n"
        "  <meta>\n"
        "    <task>\n"
        "      <name>detectime</name>\n"
        "      <size>2</size>\n"
        "      <mode>annotation</mode>\n"
        "      <labels>\n"
        "        <label>\n"
        "          <name>ok</name>\n"
        "          <type>rectangle</type>\n"
        "          <attributes>\n"
        "          </attributes>\n"
        "        </label>\n"
        "      </labels>\n"
        "    </task>\n"
        "  </meta>\n"
        '  <image id="0" name="v-0.jpg" width="640" height="480">\n'
        '    <box label="ok" source="auto" occluded="0" xtl="1.5" ytl="2.0" xbr="5.1" ybr="40.0" z_order="0">\n'
        "    </box>\n"
        "  </image>\n"
        '  <image id="1" name="v-1.jpg" width="640" height="480">\n'
        "  </image>\n"
        "</annotations>\n"
    )
    assert json.loads((tmp_path / "labels.json").read_text()) == [{"name": "ok", "type": "rectangle", "attributes": []}]


def test_pictures_are_numbered_in_the_order_of_their_names(tmp_path: Path) -> None:
    data = make_data([(Shown("ok", (0, 0, 10 + k, 10)),) for k in range(3)], kept="frames", name=["b", "C", "a"])
    found = read_cvat(write(place_pictures(data, exports.FORMAT), tmp_path))
    ids = [int(image.get("id", "")) for image in ElementTree.parse(tmp_path / exports.FILE_NAME).iter("image")]
    assert ids == [0, 1, 2]
    assert [(name, right) for name, _, _, _, right, _ in list_boxes(found)] == [
        ("C.jpg", 11),
        ("a.jpg", 12),
        ("b.jpg", 10),
    ]


def test_pictures_of_all_parts_lie_in_one_folder() -> None:
    data = place_pictures(make_data(splits=("train", "val"), kept="frames"), exports.FORMAT)
    assert data.images["file"].tolist() == ["images/v-0.jpg", "images/v-1.jpg", "images/v-2.jpg"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=draw_data(class_names=HOLDABLE, kept=["frames", "none"]))
def test_any_export_comes_back(data: ExportData, tmp_path: Path) -> None:
    data = place_pictures(data, exports.FORMAT)
    names = [file.removeprefix("images/") if data.pictures == "frames" else file for file in data.images["file"]]
    if not names:
        assert "no pictures" in refuse(write(data, tmp_path))
    elif all(exports.find_fault(name.strip()[:1] or "x") is None and is_xml(name) for name in names):
        found = read_cvat(write(data, tmp_path))
        assert list_boxes(found) == expect_boxes(data, names)
        assert sorted(found.images["name"]) == sorted(names)
        assert found.labels == data.classes
        assert found.images["unused"].sum() == 0
    else:
        with pytest.raises(ExportError, match="cannot hold the character"):
            write(data, tmp_path)


def is_xml(text: str) -> bool:
    """Whether a parser reads a text back, written as a character reference."""
    try:
        ElementTree.fromstring("<a>" + "".join(f"&#{ord(letter)};" for letter in text) + "</a>")
    except ElementTree.ParseError:
        return False
    return True


@given(TEXTS | st.characters(exclude_categories=[]))
def test_a_class_is_refused_exactly_if_it_would_change(name: str) -> None:
    assert (exports.find_fault(name) is None) == (is_xml(name) and name == name.strip() and 0 < len(name) <= 64)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "not empty"),
        (" ", "not empty"),
        ("ok\n", "blanks"),
        ("x" * 65, "after 64 characters"),
        ("bell\a", "U[+]0007"),
        ("half \ud83d", "U[+]D83D"),
        ("\ufffe", "U[+]FFFE"),
    ],
)
def test_the_fault_of_a_class_is_named(name: str, fault: str) -> None:
    assert re.search(fault, exports.find_fault(name) or "")


def test_a_path_that_xml_cannot_hold_is_named(tmp_path: Path) -> None:
    data = make_data(file=["a.jpg", "b\x01.jpg", "c.jpg"])
    with pytest.raises(ExportError, match=r"'b\\x01\.jpg': .*U\+0001; export with `images: frames`"):
        write(data, tmp_path)
    assert not (tmp_path / exports.FILE_NAME).exists()


def test_without_pictures_they_have_the_paths_of_the_frames(tmp_path: Path) -> None:
    found = read_cvat(write(make_data(), tmp_path))
    assert found.images["name"].tolist() == ["v/0.jpg", "v/1.jpg", "v/2.jpg"]


@pytest.mark.large
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    setup = (
        "from export_data import make_many\nfrom detectime.exports.cvat import FORMAT\n"
        "from detectime.storage.store import open_store\n"
        "data = make_many(175_000)\nstore = open_store(sys.argv[1])"
    )
    megabytes, _ = measure_memory(
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n{setup}", "FORMAT.write(data, store)", tmp_path
    )
    assert megabytes < 150


def test_many_pictures_come_back(tmp_path: Path) -> None:
    data = make_many(10_000)  # more than are encoded at a time
    found = read_cvat(write(data, tmp_path))
    names = data.images["file"].tolist()
    assert list_boxes(found) == expect_boxes(data, names)


# -- what is read


def test_reads_what_cvat_writes(tmp_path: Path) -> None:
    meta = (
        "<meta><task><id>7</id><name>hands</name><size>2</size><mode>annotation</mode><overlap>0</overlap>"
        "<labels><label><name>ok</name><color>#fa3253</color><type>rectangle</type><attributes><attribute>"
        "<name>sure</name><mutable>False</mutable><input_type>checkbox</input_type></attribute></attributes></label>"
        "<label><name>like</name><color>#fafa37</color><type>any</type><attributes></attributes></label></labels>"
        "<segments><segment><id>7</id><start>0</start></segment></segments></task><dumped>2026-11-26</dumped></meta>"
    )
    content = (
        '<box label="ok" source="file" occluded="1" xtl="0.50" ytl="1.25" xbr="30.00" ybr="40.13" z_order="2" '
        'group_id="1">\n<attribute name="sure">a &lt; b</attribute>\n</box>\n<tag label="like" source="manual"></tag>'
    )
    found = read_cvat(write_text(tmp_path, make_image(content), make_image("", "sub/b.png"), meta=meta))
    assert found.labels == ("ok", "like")
    assert found.images.to_dict("list") == {
        "name": ["a.jpg", "sub/b.png"],
        "width": [640, 640],
        "height": [480, 480],
        "unused": [0, 0],
    }
    assert found.boxes.to_dict("records") == [
        {"image": 0, "label": "ok", "x1": 0.5, "y1": 1.25, "x2": 30.0, "y2": 40.13}
        | {"occluded": True, "source": "file", "attributes": {"sure": "a < b"}}
    ]
    assert [str(note) for note in found.notes] == [
        "1 shape is of the kind tag and not used: only boxes are (the first: 'a.jpg')"
    ]


@pytest.mark.parametrize("member", ["annotations.xml", "task 7/annotations.xml"])
def test_reads_the_zip_that_cvat_exports(tmp_path: Path, member: str) -> None:
    file = tmp_path / "returned.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/a.jpg", b"picture")
        archive.writestr("__MACOSX/annotations.xml", b"not the one")
        archive.write(write_text(tmp_path, make_image()), member)
    assert list_boxes(read_cvat(file)) == [("a.jpg", "ok", 1.0, 2.0, 30.0, 40.0)]


def test_shapes_that_are_not_upright_boxes_are_counted(tmp_path: Path) -> None:
    content = (
        BOX
        + BOX.replace("z_order", 'rotation="15.00" z_order')
        + BOX.replace("z_order", 'rotation="0.00" z_order')
        + '<polygon label="ok" points="1.00,1.00;2.00,1.00;2.00,2.00"></polygon>'
        + '<skeleton label="hand"><points label="wrist" points="1.00,1.00"></points></skeleton>'
    )
    found = read_cvat(write_text(tmp_path, make_image(), make_image(content, "b.jpg")))
    assert found.images["unused"].tolist() == [0, 3]
    assert [name for name, *_ in list_boxes(found)] == ["a.jpg", "b.jpg", "b.jpg"]
    assert [str(note) for note in found.notes] == [
        "1 box is rotated and not used: straighten it in CVAT (the first: 'b.jpg')",
        "1 shape is of the kind polygon and not used: only boxes are (the first: 'b.jpg')",
        "1 shape is of the kind skeleton and not used: only boxes are (the first: 'b.jpg')",
    ]


@pytest.mark.parametrize(
    ("change", "corners"),
    [
        (("1.00", "-0.01"), (0.0, 2.0, 30.0, 40.0)),
        (("30.00", "640.01"), (1.0, 2.0, 640.0, 40.0)),
        (("40.00", "1e3"), (1.0, 2.0, 30.0, 480.0)),
        (("2.00", "-7"), (1.0, 0.0, 30.0, 40.0)),
    ],
)
def test_boxes_are_clipped(tmp_path: Path, change: tuple[str, str], corners: tuple[float, ...]) -> None:
    found = read_cvat(write_text(tmp_path, make_image(BOX.replace(*change))))
    assert list_boxes(found) == [("a.jpg", "ok", *corners)]
    by_rounding = change[1] in ("-0.01", "640.01")
    assert [note.kind for note in found.notes] == ([] if by_rounding else ["clipped"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("30.00", "1.00"), id="a line"),
        pytest.param(("30.00", "0.50"), id="swapped corners"),
        pytest.param(("30.00", "nan"), id="not a number"),
        pytest.param(("1.00", "nan"), id="first not a number"),
        pytest.param(("2.00", "inf"), id="infinite"),
        pytest.param(("1.00", "20000"), id="beyond the picture"),
        pytest.param(("40.00", "-1"), id="above the picture"),
    ],
)
def test_boxes_without_an_area_are_named_and_not_used(tmp_path: Path, change: tuple[str, str]) -> None:
    found = read_cvat(write_text(tmp_path, make_image(BOX.replace(*change)), make_image(BOX, "b.jpg")))
    assert [name for name, *_ in list_boxes(found)] == ["b.jpg"]
    assert found.images["unused"].tolist() == [1, 0]
    (note,) = found.notes
    assert (note.kind, note.count, note.example) == ("no_area", 1, "a.jpg")


TRACK = '<track id="0" label="ok" source="manual"><box frame="0" xtl="1" ytl="1" xbr="2" ybr="2"></box></track>'


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        pytest.param(
            [TRACK], r"line 4: this is a file of CVAT for video.*export the task .*`CVAT for images 1.1`", id="video"
        ),
        pytest.param([], r": there are no pictures in this file; in CVAT export", id="empty"),
        pytest.param([make_image(name="b.jpg"), "<image"], r"line 7: not XML: not well-formed", id="cut"),
        pytest.param([make_image(BOX.replace("label", "name"))], r"line 5: <box> lacks label", id="no label"),
        pytest.param([make_image(BOX.replace("ybr", "bottom"))], r"line 5: <box> lacks ybr", id="no side"),
        pytest.param(
            [make_image(BOX.replace("2.00", "two"))], r"line 5: <box> has ytl='two', which is not a number", id="text"
        ),
        pytest.param([make_image(size='width="640"')], r"line 4: <image> lacks height", id="no height"),
        pytest.param(
            [make_image(size='width="6.4" height="1"')], r"line 4: <image> has width='6.4', which", id="fraction"
        ),
        pytest.param([make_image(size='width="-1" height="1"')], r"line 4: <image> has width='-1'", id="negative"),
        pytest.param([make_image(size='width="0" height="1"')], r"line 4: <image> has width='0'", id="zero"),
        pytest.param(
            [make_image(size=f'width="1{"0" * 5000}" height="1"')], r"line 4: <image> has width='100", id="huge"
        ),
        pytest.param(["&harm;"], r"line 4: not XML: undefined entity", id="entity"),
        pytest.param(["\x01"], r"line 4: not XML: not well-formed", id="control character"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path: Path, images: list[str], reason: str) -> None:
    assert re.search(reason, refuse(write_text(tmp_path, *images)))


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
THEFT = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f'<?xml version="1.0"?>\n{BOMB}\n<annotations>&c;</annotations>', "line 2: has a document type"),
        (f"{THEFT}<annotations>&b;</annotations>", "line 1: has a document type"),
        ('<!DOCTYPE annotations SYSTEM "http://example.org/a.dtd"><annotations/>', "line 1: has a document type"),
        ("<annotation><filename>a.jpg</filename></annotation>", "line 1: not a file of CVAT: .* <annotation> instead"),
        ("<annotations><version>2.0</version></annotations>", "line 1: version '2.0' of the format is not known"),
        ("", "line 1: not XML: no element found"),
        ('{"images": []}', "line 1: not XML: not well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><annotations/>', "line 1: not XML: unknown encoding"),
        ('<?xml version="1.0" encoding="big5"?><annotations/>', "line 1: not XML: .*encoding"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    file = tmp_path / "returned.xml"
    file.write_text(content)
    assert re.search(reason, refuse(file))


def make_zip(members: dict[str, bytes]) -> bytes:
    """Make the content of a zip."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            make_zip({"instances.json": b"{}"}),
            r"has no annotations\.xml, but 'instances\.json'; if .*another format, unpack it, .*in CVAT",
        ),
        (make_zip({"a.jpg": b""}), r"has no annotations\.xml, but 'a\.jpg'; in CVAT"),
        (make_zip({}), "has no annotations.xml, but nothing"),
        (make_zip({"task.json": b"{}", "data/1.jpg": b""}), "this is a backup of CVAT"),
        (make_zip({"a/annotations.xml": b"", "b/annotations.xml": b""}), "several annotations.xml: 'a/ann.*', 'b/ann"),
        (make_zip({"annotations.xml": b"<annotations>"})[:-9], "cannot be read: File is not a zip file"),
        (make_zip({"annotations.xml": b"<annotations>"}).replace(b"<anno", b"<ANNO"), "cannot be read: Bad CRC"),
        (make_zip({"annotations.xml": b"<annotations>"}), "/annotations.xml, line 1: not XML"),
    ],
)
def test_other_zips_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "returned.zip"
    file.write_bytes(content)
    assert re.search(reason, refuse(file))


def test_a_place_without_a_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refuse(tmp_path / "returned.xml")
    assert "this is a folder; pass the annotations.xml" in refuse(tmp_path)


# -- what comes back as decisions


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detect and pair the sample once, and export it for CVAT without pictures to where an import looks for it."""
    output = tmp_path_factory.mktemp("made") / "run"
    export_run(make_run(output), ["cvat"], output / "exports", ExportConfig(images="none"))
    return output


@pytest.fixture
def run(made: Path, tmp_path: Path) -> FinishedRun:
    """Return a copy of the run, to decide on."""
    return open_run(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def exported(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the run once for CVAT, with pictures; returns the folder."""
    (export,) = export_run(open_run(made), ["cvat"], tmp_path_factory.mktemp("exported"))
    return Path(export.folder)


Boxes = list[tuple[str, tuple[float, ...]]]
"""Boxes of a picture: label and corners."""


@dataclass
class Seen:
    """A picture in CVAT."""

    size: tuple[int, int]
    boxes: Boxes
    extra: str = ""
    """Other elements."""


@dataclass
class Task:
    """A task in CVAT: its labels, and its pictures by name."""

    labels: list[str]
    pictures: dict[str, Seen]

    def write(self, folder: Path, prefix: str = "", subset: str = "") -> Path:
        """Write the zip that CVAT exports: two decimals, its order of attributes, its meta, its source.

        Parameters
        ----------
        folder
            Of the zip.
        prefix
            Of the names, such as that of the folder of which the task was made.
        subset
            Of the pictures, if a project is exported.
        """
        labels = "".join(
            f"<label><name>{escape(name)}</name><color>#fa3253</color><type>rectangle</type>"
            "<attributes></attributes></label>"
            for name in self.labels
        )
        images = "".join(
            self._format_image(k, prefix + name, shown, f' subset="{subset}" task_id="9"' if subset else "")
            for k, (name, shown) in enumerate(self.pictures.items())
        )
        text = (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
            f"      <id>9</id>\n      <name>hands</name>\n      <size>{len(self.pictures)}</size>\n"
            f"      <mode>annotation</mode>\n      <labels>{labels}</labels>\n    </task>\n"
            f"    <dumped>2026-11-26 12:00:00.000000+00:00</dumped>\n  </meta>\n{images}</annotations>\n"
        )
        file = folder / "returned.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("annotations.xml", text)
        return file

    def _format_image(self, k: int, name: str, shown: Seen, of_project: str) -> str:
        width, height = shown.size
        boxes = "".join(
            f'    <box label={quoteattr(label)} source="file" occluded="0" xtl="{x1:.2f}" ytl="{y1:.2f}" '
            f'xbr="{x2:.2f}" ybr="{y2:.2f}" z_order="0">\n    </box>\n'
            for label, (x1, y1, x2, y2) in shown.boxes
        )
        return (
            f'  <image id="{k}" name={quoteattr(name)}{of_project} width="{width}" height="{height}">\n'
            f"{boxes}{shown.extra}  </image>\n"
        )


def upload(export: Path) -> Task:
    """Make the task of an export."""
    found = read_cvat(export / "annotations.xml")
    sizes = found.images[["name", "width", "height"]].itertuples(index=False, name=None)
    pictures = {name: Seen((width, height), []) for name, width, height in sizes}
    for name, label, *corners in list_boxes(found):
        pictures[name].boxes.append((label, tuple(corners)))
    return Task(list(found.labels), pictures)


def make_task(run: FinishedRun, *outcomes: str, count: int = 3) -> Task:
    """Make a task of the first frames of each of these outcomes, named by the paths of the frames."""
    table = run.outcomes
    frames = pd.concat([table[table["outcome"] == outcome].head(count) for outcome in outcomes or ["paired"]])
    pictures = {}
    for row, corners in zip(frames.itertuples(), get_boxes(frames, "hand").tolist(), strict=True):
        boxes = [(row.class_name, tuple(corners))] if row.outcome in SAMPLES else []
        pictures[row.frame_path] = Seen((int(row.width), int(row.height)), boxes)
    return Task(list(run.config.labels), pictures)


def list_actions(decisions: Sequence[Decision]) -> list[tuple[str, str]]:
    return [(decision.frame_path, decision.action) for decision in decisions]


def read_hands(run: FinishedRun) -> dict[str, dict[str, Any]]:
    """Return the samples in hands.json by frame."""
    return {row["frame_path"]: row for row in json.loads(run.store.get("hands.json") or b"")}


def import_task(run: FinishedRun, task: Task, folder: Path, **options: Any) -> tuple[list[Decision], list[Note]]:
    """Import a task of some of the exported pictures."""
    decisions, notes = import_cvat(run, task.write(folder), "anna", **options)
    return decisions, [note for note in notes if note.kind != "absent"]


def export_missed(run: FinishedRun, folder: Path) -> str:
    """Export the frames without a sample; returns the folder."""
    (export,) = export_run(run, ["cvat"], folder / "missed", ExportConfig(images="none", only="missed"))
    return export.folder


def refuse_import(run: FinishedRun, task: Task, folder: Path, **options: Any) -> str:
    """Import what must be refused; returns the message."""
    with pytest.raises(DecisionError) as refusal:
        import_cvat(run, task.write(folder), "anna", **options)
    return str(refusal.value)


def test_what_nobody_changed_gives_no_decision(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    task = upload(exported)
    decimals = {corner for seen in task.pictures.values() for _, corners in seen.boxes for corner in corners}
    assert any(round(corner, 2) != corner for corner in decimals)  # which CVAT rounds
    assert import_cvat(run, task.write(tmp_path), "anna", exported) == ([], [])
    assert import_cvat(run, exported / "annotations.xml", "anna", exported) == ([], [])
    assert len(task.pictures) == 100


def test_what_was_looked_at_is_kept(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    decisions, _ = import_cvat(run, upload(exported).write(tmp_path), "anna", exported, reviewed=True)
    assert {decision.action for decision in decisions} == {"keep"}
    before = read_hands(run)
    assert {decision.frame_path for decision in decisions} == set(before)
    DecisionLog(run.store, "anna").append(*decisions)
    pair_run(run)
    assert read_hands(run) == before
    assert (run.outcomes["decision"] == "keep").sum() == 100


def test_corrections_reach_hands_json(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    task = upload(exported)
    paths = read_samples_csv(open_store(exported)).set_index("file")["frame_path"]
    moved, deleted, renamed, both = names = list(task.pictures)[:80:20]
    frames = [paths[f"images/{name}"] for name in names]
    (label, _), other = task.pictures[moved].boxes[0], "victory"
    task.pictures[moved].boxes = [(label, (10.004, 20.0, 110.0, 140.5))]
    task.pictures[deleted].boxes = []
    task.pictures[renamed].boxes = [
        (other if name != other else "ok", box) for name, box in task.pictures[renamed].boxes
    ]
    task.pictures[both].boxes = [("mute", (100.0, 100.0, 160.0, 180.0))]
    expected = {moved: label, renamed: task.pictures[renamed].boxes[0][0], both: "mute"}
    before = read_hands(run)

    decisions, notes = import_cvat(run, task.write(tmp_path), "anna", exported)
    assert notes == []
    kinds = zip(
        [frames[0], frames[1], frames[2], frames[3], frames[3]], ["box", "reject", "label", "box", "label"], strict=True
    )
    assert list_actions(decisions) == list(kinds)
    assert decisions[0].box == (10.0, 20.0, 110.0, 140.5)
    assert decisions[0].judged_class == label
    assert all(decision.content and decision.reviewer == "anna" for decision in decisions)

    DecisionLog(run.store, "anna").append(*decisions)
    pair_run(run)
    after = read_hands(run)
    assert set(before) - set(after) == {frames[1]}
    assert after[frames[0]]["bbox"] == [10, 20, 110, 141]
    others = set(before) - set(frames)
    assert {path: after[path] for path in others} == {path: before[path] for path in others}
    for frame_path, name in zip(frames, names, strict=True):
        if name in expected:
            assert after[frame_path]["label"] == LABELS[expected[name]]
    counts = run.outcomes["outcome"].value_counts()
    assert (counts["corrected"], counts["rejected"], counts["paired"]) == (3, 1, 96)


def test_a_box_of_a_frame_without_a_sample(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, "no_hand")
    first, second, _ = task.pictures
    class_name = run.outcomes.set_index("frame_path").loc[first, "class_name"]
    task.pictures[first].boxes = [(class_name, (5.0, 6.0, 50.0, 60.0))]
    task.pictures[second].boxes = [("dislike", (5.0, 6.0, 50.0, 60.0)), ("no_gesture", (100.0, 100.0, 140.0, 140.0))]
    decisions, notes = import_task(run, task, tmp_path, export_folder=export_missed(run, tmp_path))
    assert list_actions(decisions) == [(first, "box"), (second, "box"), (second, "label")]
    assert decisions[0].judged_box is None
    assert notes == []


@pytest.mark.parametrize("pixels", [0.0, 0.009, 0.011, 3.0])
def test_a_box_is_moved_by_more_than_rounding(run: FinishedRun, tmp_path: Path, pixels: float) -> None:
    task = make_task(run, count=1)
    ((name, seen),) = task.pictures.items()
    ((label, (x1, y1, x2, y2)),) = seen.boxes
    file = write_text(
        tmp_path,
        make_image(
            f'<box label="{label}" xtl="{x1 + pixels}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>',
            name,
            'width="{}" height="{}"'.format(*task.pictures[name].size),
        ),
    )
    decisions, _ = import_cvat(run, file, "anna")
    assert [decision.action for decision in decisions] == (["box"] if pixels > 0.01 else [])


def test_the_box_that_overlaps_the_exported_one_most_counts(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=1)
    ((name, seen),) = task.pictures.items()
    ((label, (x1, y1, x2, y2)),) = seen.boxes
    away = (0.0, 0.0, 20.0, 20.0)
    task.pictures[name].boxes = [("stop", away), (label, (x1, y1, x2 + 9, y2)), (label, (x1, y1, x2 + 30, y2))]
    decisions, notes = import_task(run, task, tmp_path)
    assert [(decision.action, decision.box) for decision in decisions] == [
        ("box", tuple(round(corner, 2) for corner in (x1, y1, x2 + 9, y2)))
    ]
    assert [(note.kind, note.count, note.example) for note in notes] == [("several", 1, name)]


def test_hands_without_a_gesture_do_not_count(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=1)
    (sample,) = task.pictures
    task.pictures[sample].boxes.append(("no_gesture", (0.0, 0.0, 20.0, 20.0)))
    assert import_task(run, task, tmp_path) == ([], [])
    task = make_task(run, "no_hand", count=1)
    (without,) = task.pictures
    task.pictures[without].boxes = [("no_gesture", (0.0, 0.0, 20.0, 20.0)), ("face", (50.0, 0.0, 90.0, 20.0))]
    assert import_task(run, task, tmp_path, export_folder=export_missed(run, tmp_path)) == ([], [])


def test_a_sample_that_shows_no_gesture(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=2)
    relabelled, deleted = task.pictures
    task.pictures[relabelled].boxes = [("no_gesture", box) for _, box in task.pictures[relabelled].boxes]
    task.pictures[deleted].boxes = [("no_gesture", (0.0, 0.0, 20.0, 20.0))]  # another hand, elsewhere
    decisions, _ = import_task(run, task, tmp_path)
    assert list_actions(decisions) == [(relabelled, "label"), (deleted, "reject")]
    assert decisions[0].class_name == "no_gesture"


def test_pictures_that_are_not_clear_are_named_and_not_decided(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=5)
    rotated, drawn, doubled, elsewhere, copied = names = list(task.pictures)
    task.pictures[rotated].boxes = []
    task.pictures[rotated].extra = BOX.replace("z_order", 'rotation="8.00" z_order')
    task.pictures[drawn].extra = '<polygon label="ok" points="1.00,1.00;2.00,1.00;2.00,2.00"></polygon>'
    task.pictures[doubled].boxes = [
        ("ok", task.pictures[doubled].boxes[0][1]),
        ("like", task.pictures[doubled].boxes[0][1]),
    ]
    task.pictures[elsewhere].boxes = [("like", (0.0, 0.0, 9.0, 9.0)), ("like", (0.0, 20.0, 9.0, 29.0))]
    task.pictures[copied].boxes *= 2  # pasted twice: one box all the same
    decisions, notes = import_task(run, task, tmp_path, reviewed=True)
    assert list_actions(decisions) == [(copied, "keep")]
    assert [(note.kind, note.count, note.example) for note in notes] == [
        ("rotated", 1, rotated),
        ("polygon", 1, drawn),
        ("unclear", 4, names[0]),
        ("several", 1, copied),
    ]


def test_pictures_of_other_jobs_are_not_decided(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    task = upload(exported)
    _, *others = task.pictures
    for name in others:
        del task.pictures[name]
    task.pictures["strange.jpg"] = Seen((64, 48), [])
    decisions, notes = import_cvat(run, task.write(tmp_path), "anna", exported, reviewed=True)
    assert len(decisions) == 1
    files = read_samples_csv(open_store(exported))["file"]
    first = next(file for file in files if file.removeprefix("images/") in others)
    assert [str(note) for note in notes] == [
        "1 picture was not exported (the first: 'strange.jpg')",
        f"99 pictures of the export are not in the file: nothing is decided of them (the first: '{first}')",
    ]


@pytest.mark.parametrize("prefix", ["", "images/", "upload 7/images/"])
@pytest.mark.parametrize("subset", ["", "Train"])
def test_pictures_are_found_in_other_folders(
    run: FinishedRun, exported: Path, tmp_path: Path, prefix: str, subset: str
) -> None:
    file = upload(exported).write(tmp_path, prefix, subset)
    decisions, notes = import_cvat(run, file, "anna", exported, reviewed=True)
    assert (len(decisions), notes) == (100, [])


@pytest.mark.parametrize("prefix", ["", "data/TRAIN_DATA/"])
def test_frames_are_found_without_an_export_of_pictures(run: FinishedRun, tmp_path: Path, prefix: str) -> None:
    (export,) = export_run(run, ["cvat"], tmp_path, ExportConfig(images="none"))
    task = upload(Path(export.folder))
    decisions, notes = import_cvat(run, task.write(tmp_path, prefix), "anna", export.folder, reviewed=True)
    assert (len(decisions), notes) == (100, [])


def test_other_frames_of_the_same_name_are_not_taken(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=2)
    stranger = f"elsewhere/{next(iter(task.pictures))}"
    task.pictures[stranger] = Seen((640, 480), [])
    decisions, notes = import_task(run, task, tmp_path)
    assert decisions == []
    assert [(note.kind, note.example) for note in notes] == [("unknown", stranger)]


def test_pictures_of_other_sizes_are_refused(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    first = next(iter(task.pictures))
    task.pictures[first].size = (320, 240)
    message = refuse_import(run, task, tmp_path)
    assert re.search(f"1 of 3 pictures .* the first, '{first}', is 320 × 240 instead of", message)


def test_labels_that_are_no_class_are_refused(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    _, second, _ = task.pictures
    task.pictures[second].boxes = [("okay", box) for _, box in task.pictures[second].boxes]
    message = refuse_import(run, task, tmp_path)
    assert re.search(f"labels that are no class: 'okay'; the first is in '{second}'; accepted: .*stop", message)


def test_boxes_that_were_lost_are_not_rejected(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    lost = {label for seen in task.pictures.values() for label, _ in seen.boxes}
    for seen in task.pictures.values():
        seen.boxes.clear()
    assert "has no boxes, of 3 that were exported; upload annotations.xml" in refuse_import(run, task, tmp_path)
    task.labels = [label for label in task.labels if label not in lost]
    task.pictures[next(iter(task.pictures))].boxes = [(task.labels[-1], (0.0, 0.0, 9.0, 9.0))]
    assert re.search(
        r"the task has no label .*, so that CVAT did not take 3 of the", refuse_import(run, task, tmp_path)
    )


def test_pictures_of_something_else_are_refused(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    task.pictures = {f"x-{name}": seen for name, seen in task.pictures.items()}
    message = refuse_import(run, task, tmp_path)
    assert re.search(r"none of its pictures was exported, such as 'x-.*'; exported are such as", message)


def test_a_frame_that_occurs_twice_is_refused(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=1)
    content = task.write(tmp_path)
    with zipfile.ZipFile(content) as archive:
        text = archive.read("annotations.xml").decode()
    image = text[text.index("  <image") : text.index("</annotations>")]
    (tmp_path / "twice.xml").write_text(text.replace("</annotations>", f"{image}</annotations>"))
    with pytest.raises(DecisionError, match="several pictures are of the frame"):
        import_cvat(run, tmp_path / "twice.xml", "anna")


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        ("coco", ExportConfig(box="bbox"), "holds crops instead of hands"),
        ("imagefolder", ExportConfig(box="hand"), "holds pictures of crops; export with `images: frames`"),
    ],
)
def test_exports_of_crops_are_refused(
    run: FinishedRun, tmp_path: Path, kind: str, config: ExportConfig, reason: str
) -> None:
    (export,) = export_run(run, [kind], tmp_path, config)
    with pytest.raises(DecisionError, match=reason):
        import_cvat(run, make_task(run).write(tmp_path), "anna", export.folder)


def test_an_export_of_another_run_is_refused(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    rows = (SAMPLE / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "two.csv").write_text("".join(rows[:3]))
    other = make_run(tmp_path / "other", labels=str(tmp_path / "two.csv"))
    with pytest.raises(DecisionError, match=f"are not in {tmp_path}.*; give the run that was exported, "):
        import_cvat(other, exported / "annotations.xml", "anna", exported)
    with pytest.raises(ExportError, match="this is no export"):
        import_cvat(run, exported / "annotations.xml", "anna", tmp_path)


def test_what_was_shown_is_judged_also_after_the_run_changed(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    task = upload(exported)
    paths = read_samples_csv(open_store(exported)).set_index("file")
    name = next(iter(task.pictures))
    row = paths.loc[f"images/{name}"]
    shown = tuple(row[list(CORNERS)])
    pair_run(run, PairingConfig(crop_coefficient=0.2))
    assert run.outcomes.set_index("frame_path").loc[row["frame_path"], "outcome"] == "apart"
    task.pictures[name].boxes = []
    decisions, _ = import_cvat(run, task.write(tmp_path), "anna", exported)
    assert [(decision.action, decision.judged_box) for decision in decisions] == [("reject", shown)]


# -- what changed since the export


def replace_detections(run: FinishedRun, frame_path: str, **values: Any) -> None:
    """Give a frame other values in the detections table, as if it was detected again."""
    rows = run.read_detections().to_pylist()
    for row in rows:
        if row["frame_path"] == frame_path:
            row |= values
    with run.store.writing("detections.parquet") as file:
        pq.write_table(pa.Table.from_pylist(rows, DETECTIONS), file)


def test_without_the_export_nothing_is_imported(run: FinishedRun, tmp_path: Path) -> None:
    """Today's samples are not what was exported: boxes that nobody moved would count as drawn."""
    task = make_task(run)
    shutil.rmtree(tmp_path / "run" / "exports")
    assert "exports/cvat: there is no export; give --export DIR" in refuse_import(run, task, tmp_path)
    assert len(task.pictures) == 3


def test_an_export_that_is_not_finished_is_refused(run: FinishedRun, tmp_path: Path) -> None:
    file = tmp_path / "run" / "exports" / "cvat" / "export.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"finished": None}))
    assert "this export is not finished" in refuse_import(run, make_task(run), tmp_path)


def test_a_changed_frame_is_left_out_and_named(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    changed, *others = task.pictures
    replace_detections(run, changed, content="5-3610a686")
    decisions, notes = import_task(run, task, tmp_path, reviewed=True)
    assert [decision.frame_path for decision in decisions] == others
    assert [(note.kind, note.example) for note in notes] == [("changed", changed)]


def test_the_content_is_that_of_the_export(run: FinishedRun, exported: Path, tmp_path: Path) -> None:
    rows = read_samples_csv(open_store(exported)).set_index("frame_path")["content"]
    frame_path = rows.index[0]
    replace_detections(run, frame_path, content=None)
    decisions, _ = import_cvat(run, upload(exported).write(tmp_path), "anna", exported, reviewed=True)
    assert {decision.frame_path: decision.content for decision in decisions} == rows.to_dict()


def test_who_decided_after_the_export_is_not_overridden(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    decided, moved, kept = task.pictures
    log = DecisionLog(run.store, "ben")
    log.append(judge_frame(run, decided, "ben", "reject"), judge_frame(run, moved, "ben", "keep"))
    pair_run(run)
    task.pictures[moved].boxes = [(task.pictures[moved].boxes[0][0], (1.0, 2.0, 30.0, 40.0))]
    decisions, notes = import_task(run, task, tmp_path, reviewed=True)
    assert list_actions(decisions) == [(kept, "keep")]
    assert [(note.kind, note.count, note.example) for note in notes] == [("decided", 2, decided)]
    assert "2 frames were decided on after the export was made" in str(notes[0])
    early = dataclasses.replace(log_first(run), at="2020-01-02T03:04:05.000000+00:00")
    run.store.delete(run.store.names("decisions"))
    DecisionLog(run.store, "ben").append(early)  # before the export: what CVAT says is newer
    assert len(import_task(run, task, tmp_path, reviewed=True)[0]) == 3


def log_first(run: FinishedRun) -> Decision:
    return run.decisions.decisions[0]


def test_kept_boxes_that_pairing_would_not_give_today_are_counted(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run)
    moved = next(iter(task.pictures))
    samples = run.outcomes
    samples.loc[samples["frame_path"] == moved, "hand_x1"] += 1
    run_tables.write_outcomes(run.store, samples)
    _, notes = import_task(run, task, tmp_path, reviewed=True)
    assert [(note.kind, note.count, note.example) for note in notes] == [("pinned", 1, moved)]


def test_a_missed_frame_that_was_looked_at_has_no_hand(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, "no_hand")
    folder = export_missed(run, tmp_path)
    assert import_task(run, task, tmp_path, export_folder=folder)[0] == []
    decisions, _ = import_task(run, task, tmp_path, export_folder=folder, reviewed=True)
    assert {(decision.action, decision.judged_box) for decision in decisions} == {("reject", None)}
    DecisionLog(run.store, "anna").append(*decisions)
    pair_run(run)
    left = read_samples_csv(open_store(export_missed(run, tmp_path / "again")))["frame_path"]
    assert set(left).isdisjoint(task.pictures)
    assert len(left)


def test_a_rejected_frame_is_missed_until_somebody_says_that_it_has_no_hand(run: FinishedRun, tmp_path: Path) -> None:
    task = make_task(run, count=1)
    (frame_path,) = task.pictures
    early = dataclasses.replace(judge_frame(run, frame_path, "ben", "reject"), at="2020-01-02T03:04:05.000000+00:00")
    DecisionLog(run.store, "ben").append(early)
    pair_run(run)
    folder = export_missed(run, tmp_path)
    assert frame_path in set(read_samples_csv(open_store(folder))["frame_path"])
    task.pictures[frame_path].boxes = []
    decisions, _ = import_task(run, task, tmp_path, export_folder=folder, reviewed=True)
    DecisionLog(run.store, "anna").append(*decisions)
    pair_run(run)
    assert run.outcomes.set_index("frame_path").loc[frame_path, "outcome"] == "rejected"
    left = read_samples_csv(open_store(export_missed(run, tmp_path / "again")))["frame_path"]
    assert frame_path not in set(left)
