"""The frame table: which csv files are read, and how invalid ones are refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import LABELS
from faults import make_config
from skips import need_extra

from detectime import sources
from detectime.config import Config, load_config
from detectime.detection import run
from detectime.errors import ConfigError
from detectime.labels import frame_table, frames_csv, vocabulary
from detectime.labels.table_files import read_table
from detectime.labels.tables import TableError
from detectime.sources.contract import SourceError
from detectime.sources.folder import FolderSource
from detectime.sources.names import fold_name
from detectime.storage import run_tables, store

HEADER = "frame_path,video_name,frame_id,class_name\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Make a folder with three files."""
    folder = tmp_path / "images"
    (folder / "v1").mkdir(parents=True)
    for name in ("v1/1.jpg", "v1/2.jpg", "other.jpg"):
        (folder / name).touch()
    return folder


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Return the path of the labels."""
    return tmp_path / "labels.csv"


def read(csv: Path, images: Path, text: str | bytes) -> pd.DataFrame:
    """Write a csv and read it."""
    csv.write_bytes(text if isinstance(text, bytes) else text.encode())
    return frames_csv.read_frames_csv(csv, FolderSource(str(images)), LABELS)


def get_refusal(csv: Path, images: Path, text: str | bytes) -> str:
    """Write a csv and return the message with which it is refused."""
    with pytest.raises(TableError) as error:
        read(csv, images, text)
    assert str(csv) in str(error.value)
    return str(error.value)


def test_a_table_is_read(csv: Path, images: Path) -> None:
    content = HEADER + "v1/2.jpg,v1,2,ok\nv1/1.jpg,v1,-01,mute\ngone.jpg,007,3,no_gesture\n"
    (images / "v1" / "2.jpg").write_bytes(b"hello")
    for name in ("1.jpg", "2.jpg"):
        os.utime(images / "v1" / name, ns=(0, 1_700_000_000_000_000_007))
    table = read(csv, images, content)
    expected = pd.DataFrame(
        {
            "frame_path": ["v1/2.jpg", "v1/1.jpg", "gone.jpg"],
            "video_name": ["v1", "v1", "007"],
            "frame_id": [2, -1, 3],
            "class_name": ["ok", "mute", "no_gesture"],
            "label": [4, 3, 0],
            "on_disk": [True, True, False],
            "stamp": ["5-1700000000000000007", "0-1700000000000000007", None],
        }
    )
    pd.testing.assert_frame_equal(table, expected)
    assert table.attrs == {
        "duplicates": 0,
        "first_duplicate": None,
        "unlisted": 1,
        "unlisted_names": ["other.jpg"],
        "labels_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "unreachable": None,
        "notes": [],
    }


ROWS = HEADER + 'v1/1.jpg,"v,1",5,ok\n'


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ROWS.encode(), id="commas"),
        pytest.param(b"frame_path;video_name;frame_id;class_name\nv1/1.jpg;v,1;5;ok\n", id="semicolons"),
        pytest.param(b"\xef\xbb\xbf" + ROWS.encode(), id="byte order mark"),
        pytest.param(ROWS.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(ROWS.replace("\n", "\r").encode(), id="CR"),
        pytest.param(ROWS.strip().encode(), id="no end of line"),
        pytest.param(ROWS.replace("\n", "\n\n").encode(), id="blank lines"),
        pytest.param(ROWS.replace(",class_name", ", class_name ").encode(), id="blanks in the header"),
        pytest.param(b'class_name,frame_id,video_name,frame_path\nok,5,"v,1",v1/1.jpg\n', id="another order"),
        pytest.param(b"frame_path\tvideo_name\tframe_id\tclass_name\nv1/1.jpg\tv,1\t5\tok\n", id="tabs"),
        pytest.param(b'FramePath,Video Name,FRAME-ID,Class_Name\nv1/1.jpg,"v,1",5,ok\n', id="another case"),
        pytest.param(b"sep=;\nframe_path;video_name;frame_id;class_name\nv1/1.jpg;v,1;5;ok\n", id="Excel's sep="),
        pytest.param(b"frame_path|video_name|frame_id|class_name\nv1/1.jpg|v,1|5|ok\n", id="bars"),
        pytest.param(ROWS.replace("5", "5.0").encode(), id="a number as pandas writes it"),
        pytest.param(ROWS.replace("\n", ",,\n").encode(), id="columns without name and value"),
        pytest.param(b',frame_path,video_name,frame_id,class_name\n0,v1/1.jpg,"v,1",5,ok\n', id="the index of pandas"),
        pytest.param(ROWS.replace(",5,", ", 5 ,").encode(), id="blanks around a number"),
        pytest.param(ROWS.replace(",5,", ",\u00a05,").encode(), id="a no-break space before a number"),
        pytest.param((ROWS + ",,,\n,,,\n").encode(), id="rows without a value"),
    ],
)
def test_dialects(content: bytes, csv: Path, images: Path) -> None:
    row = read(csv, images, content).iloc[0]
    assert row[["frame_path", "video_name", "frame_id", "class_name"]].tolist() == ["v1/1.jpg", "v,1", 5, "ok"]


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.jpg",
        "<script>alert(1)</script>.jpg",
        "😀/ünï.jpg",
        "x" * 10_000,
        "NA",
        "null",
        "a b.jpg",
        "a..b.jpg",
        "\\",
    ],
    ids=lambda name: ascii(name[:20]),
)
def test_names_are_unchanged(name: str, csv: Path, images: Path) -> None:
    row = read(csv, images, f'{HEADER}"{name}","{name}",1,ok\n').iloc[0]
    assert (row["frame_path"], row["video_name"]) == (name, name)


def test_other_columns_are_kept_as_text(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER.strip() + ",user,weight\na.jpg,v,1,ok,,007\nb.jpg,v,2,ok\n")
    assert table["user"].tolist() == ["", ""]
    assert table["weight"].tolist() == ["007", ""]


def test_equal_rows_are_dropped_and_counted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "b.jpg,v,2,ok\na.jpg,v,1,ok\na.jpg,v,1,ok\na.jpg,v,1,ok\n")
    assert table["frame_path"].tolist() == ["b.jpg", "a.jpg"]
    assert table.index.tolist() == [0, 1]
    assert (table.attrs["duplicates"], table.attrs["first_duplicate"]) == (2, "a.jpg")
    assert str(frame_table.list_notes(table)[0]) == "2 rows repeated another and were dropped (the first: 'a.jpg')"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param("a.jpg,v,1,okay", "the class_name is not a label; accepted: no_gesture, stop", id="class"),
        pytest.param("a.jpg,v,1,", "the class_name is not a label", id="no class"),
        pytest.param("a.jpg,v,1,OK", "did you mean 'ok'?", id="class in another case"),
        pytest.param("a.jpg,v,1,4", "did you mean 'ok', whose number is 4?", id="number of a class"),
        pytest.param(",v,1,ok", "the frame_path is empty", id="no path"),
        pytest.param("/etc/a.jpg,v,1,ok", "the frame_path is absolute", id="absolute"),
        pytest.param("../a.jpg,v,1,ok", "`..`", id="above"),
        pytest.param("v/../../a.jpg,v,1,ok", "`..`", id="above, within"),
        pytest.param("v/..,v,1,ok", "`..`", id="above, at the end"),
        pytest.param("v/./a.jpg,v,1,ok", "`.`", id="here"),
        pytest.param("./../a.jpg,v,1,ok", "`..`", id="above, from here"),
        pytest.param("./,v,1,ok", "the frame_path is empty", id="here alone"),
        pytest.param("v//a.jpg,v,1,ok", "an empty part", id="two slashes"),
        pytest.param("v/,v,1,ok", "an empty part", id="slash at the end"),
        pytest.param("a.jpg,,1,ok", "the video_name is empty", id="no video"),
        pytest.param("a.jpg,v,1.5,ok", "the frame_id is not a whole number", id="fraction"),
        pytest.param("a.jpg,v,,ok", "the frame_id is not a whole number", id="no number"),
        pytest.param("a.jpg,v,99999999999999999999,ok", "the frame_id is not a whole number", id="number too large"),
        pytest.param("good.jpg,v,1,mute", "the frame has two classes", id="two classes"),
        pytest.param("good.jpg,v,2,ok", "the frame appears twice", id="two numbers"),
        pytest.param("good.jpg,w,1,ok", "the frame appears twice", id="two videos"),
    ],
)
def test_a_wrong_row_is_named(row: str, reason: str, csv: Path, images: Path) -> None:
    message = get_refusal(csv, images, f"{HEADER}x.jpg,v,1,ok\nx.jpg,v,1,ok\ngood.jpg,v,1,ok\n{row}\n")
    line, last = message.splitlines()[-2:]
    assert line.startswith("  row 4: ")  # counted in the file, before equal rows are dropped
    assert reason in line
    assert reason in last  # the line that a terminal and papermill leave visible


def test_the_current_folder_in_front_is_left_out(csv: Path, images: Path) -> None:
    """As `find .` lists files."""
    table = read(csv, images, f"{HEADER}./v1/1.jpg,v,1,ok\n./v1/1.jpg,v,1,ok\nv1/1.jpg,v,1,ok\n././x.jpg,v,2,ok\n")
    assert table["frame_path"].tolist() == ["v1/1.jpg", "x.jpg"]
    assert table["on_disk"].tolist() == [True, False]
    told = [str(note) for note in frame_table.list_notes(table)]
    assert "3 frame_paths begin with ./, which is left out (the first: './v1/1.jpg')" in told
    message = get_refusal(csv, images, f"{HEADER}./v1/1.jpg,v,1,ok\nv1/1.jpg,v,1,stop\n")
    assert "the frame has two classes" in message


def test_twenty_wrong_rows_are_named_and_the_others_counted(csv: Path, images: Path) -> None:
    rows = "".join(f"{i}.jpg,v,1,{'ok' if i % 2 else 'okay'}\n" for i in range(50))
    lines = get_refusal(csv, images, HEADER + rows).splitlines()
    assert [line.split(":")[0] for line in lines[1:-2]] == [f"  row {i}" for i in range(1, 41, 2)]
    assert lines[-2] == "  and 5 more"
    assert "25 rows are wrong; the first is row 1" in lines[-1]


def test_wrong_values_are_shown_short_and_harmless(csv: Path, images: Path) -> None:
    message = get_refusal(csv, images, f"{HEADER}\x1b[31m{'x' * 10_000},v,1,bad\n")
    assert len(message) < 1000
    assert "\x1b" not in message
    assert "…" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param("", "this file is empty; set `labels` to the csv with the labels", id="empty"),
        pytest.param("\n\n", "this file is empty", id="blank"),
        pytest.param("\ufeff", "this file is empty", id="byte order mark alone"),
        pytest.param(HEADER, "no rows", id="header alone"),
        pytest.param(
            "frame_path,video_name,frame_id\na,v,1\n", "column class_name is missing; .*'frame_id'", id="column"
        ),
        pytest.param(HEADER.strip() + ", frame_path\na,v,1,ok,b\n", "'frame_path' appears twice", id="column twice"),
        pytest.param(HEADER.strip() + ",x, x \na,v,1,ok,b,c\n", "'x' appears twice; rename one", id="blanks apart"),
        pytest.param(
            HEADER + "a,v,1,ok\n\nb,v,1,ok,more\n",
            r"row 2 \(row 1 follows the header\) has 5 values, the header 4: 'b', 'v', '1', 'ok', 'more'; put a value "
            "that contains ',' into double quotes",
            id="long row",
        ),
        pytest.param(HEADER + "a,v,1,ok,more\n", r"row 1 \(row 1 .*\) has 5 values, the header 4", id="long first row"),
        pytest.param(
            HEADER + 'x,v,1,ok\n"a,v,1,ok\nb,v,1,ok\n',
            r"row 2 \(row 1 .*\) opens a quote that is never closed: 'a,v",
            id="quote without an end",
        ),
        pytest.param((HEADER + "é,v,1,ok\n").encode("latin-1"), r"not UTF-8 \(byte 42\)", id="Latin-1"),
        pytest.param(
            (HEADER + "a,v,1,ok\n").encode("utf-16"), "in UTF-16, which Excel calls Unicode text", id="UTF-16"
        ),
        pytest.param('{"1": {"bboxes": []}}', "this is JSON, not a csv file.*the folder of HaGRID's", id="HaGRID"),
        pytest.param('{\n"1": {}}', "this is JSON, not a csv file.*the folder of HaGRID's", id="HaGRID, indented"),
        pytest.param('{"' + "x" * 200_000, "this is JSON, not a csv file", id="HaGRID, one long line"),
        pytest.param(b"\0" * 1000, "this is not text: byte 0 is a null", id="zeros"),
        pytest.param((HEADER + "a\0b,v,1,ok\n").encode(), "this is not text: byte 43 is a null", id="a zero"),
        pytest.param(b"PK\x03\x04" + bytes(range(256)), r"Excel workbook \(.xlsx\); save its sheet as csv", id="xlsx"),
        pytest.param(b"\xd0\xcf\x11\xe0" + bytes(99), r"Excel workbook \(.xls\); save its sheet as csv", id="xls"),
        pytest.param(gzip.compress(HEADER.encode()), "compressed by gzip; decompress it", id="gzip"),
        pytest.param(b"BZh91AY", "compressed by bzip2", id="bzip2"),
        pytest.param("<!DOCTYPE html><p>404", "a web page; download the file itself", id="web page"),
        pytest.param(b"\xff\xd8\xff\xe0", "a JPEG image; set `images` to images", id="JPEG"),
        pytest.param(b"PAR1" + bytes(50), "this Parquet file is damaged", id="Parquet"),
        pytest.param(
            HEADER + "x,v,1,ok\na,v,1\n",
            r"row 2 \(row 1 .*\) has 3 values, the header 4: 'a', 'v', '1'; a value is",
            id="short row",
        ),
        pytest.param(HEADER + "x,v,1,ok,\n", "rows end with ',' behind their last value", id="commas behind rows"),
        pytest.param("My labels\n" + HEADER + "x,v,1,ok\n", "'My labels', is no header of 4 columns", id="title"),
        pytest.param("# mine\n" + HEADER, "the first line, '# mine', is a comment; remove it", id="comment"),
        pytest.param(
            "frame_path,video_name,frame_id,label\na,v,1,ok\n",
            r"class_name is missing; did you mean 'label'\? rename it",
            id="class called label",
        ),
        pytest.param(
            "Filename,video_name,frame_id,class_name\na.jpg,v,1,ok\n",
            "the column frame_path is missing; did you mean 'Filename'\\? rename it to frame_path; it has",
            id="another name of a column",
        ),
        pytest.param(
            HEADER + 'a,v,1,ok\nb,"v,2,ok\nc,v,3,ok\nd,v",4,ok\n',
            r"row 2 .* a line break in 'video_name': 'v,2,ok\\nc,v,3,ok\\nd,v'; a quote .* goes on to row 4",
            id="a quote that a later one closes",
        ),
        pytest.param(
            HEADER + '"a,v,1,ok\r\nb",v,2,ok\r\n', "row 1 .* in 'frame_path': .* it goes on to row 2", id="quotes, CRLF"
        ),
        pytest.param(
            HEADER.replace(",", ";") + "a,v,1,ok\n",
            r"row 1 .* has 1 values, the header 4: 'a,v,1,ok'; separate its values by ';', as those of the header are",
            id="two separators",
        ),
        pytest.param(
            "Frame_Path,Video_Name,Frame_ID,Gesture\na,v,1,ok\n",
            "class_name is missing; did you mean 'Gesture'",
            id="case",
        ),
        pytest.param('<?xml version="1.0"?><annotations/>', r"this is XML, .*give it the ending \.xml", id="XML"),
        pytest.param(b"ARROW1\0\0", r"an Arrow \(Feather\) file; write the table as csv", id="Feather"),
        pytest.param(b"\x80\x04\x95\0", "a pickle of Python; write the table as csv", id="pickle"),
        pytest.param(HEADER.replace(",", " "), "frame_path is missing; separate the columns by commas", id="blanks"),
        pytest.param(
            f'"{HEADER.strip()}"\n', "frame_path is missing; separate the columns by commas", id="quoted rows"
        ),
        pytest.param(
            "frame_path,class_name\na,ok\n",
            "video_name is missing; add it, the video or person of each frame, which a split must not divide; it has",
            id="no groups",
        ),
        pytest.param(HEADER + "a.jpg, ,1,ok\n", "row 1: the video_name is empty", id="a blank as group"),
        pytest.param(HEADER + "b.jpg,v,1,ok\n,,,\na.jpg,,1,ok\n", "is row 3: the video_name is empty", id="empty row"),
        pytest.param(
            "video,start,end,class_name\na.mp4,0,1,ok\n",
            "the column frame_path is missing; for videos rename 'video' to file; it has",
            id="videos without `file`",
        ),
    ],
)
def test_invalid_files_are_refused(content: str | bytes, reason: str, csv: Path, images: Path) -> None:
    with pytest.raises(TableError, match=reason):
        read(csv, images, content)


def test_missing_files_and_folders_are_refused(csv: Path, images: Path) -> None:
    with pytest.raises(TableError, match="no such file; set `labels` to the csv"):
        frames_csv.read_frames_csv(csv, FolderSource(str(images)), LABELS)
    with pytest.raises(TableError, match="cannot be read: Is a directory"):
        frames_csv.read_frames_csv(images, FolderSource(str(images)), LABELS)


@pytest.mark.extra
def test_a_folder_of_labels_in_a_bucket_is_refused(images: Path) -> None:
    fsspec = need_extra("fsspec")
    fsspec.filesystem("memory").pipe("/annotations/val/ok.json", b"{}")
    with pytest.raises(
        TableError, match="a folder of labels cannot be read from a bucket; download it and set `labels` to the copy"
    ):
        frames_csv.read_frames_csv("memory://annotations", FolderSource(str(images)), LABELS)
    with pytest.raises(TableError, match="no such file; set `labels` to the csv"):
        frames_csv.read_frames_csv("memory://nowhere.csv", FolderSource(str(images)), LABELS)


# -- columns, and tables that are no csv


def test_columns_without_a_name_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER.replace("\n", ",,,\n") + "v1/1.jpg,v,1,ok,,x,\nv1/2.jpg,v,2,ok,,,\n")
    assert table["column_6"].tolist() == ["x", ""]
    assert [str(note) for note in table.attrs["notes"]] == [
        "1 column of the labels has no name, and is kept as column_6",
        "2 columns of the labels have neither a name nor a value (the first: 'column 5')",
    ]


def test_rows_with_too_few_values_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER.replace("\n", ",note\n") + "v1/1.jpg,v,1,ok,x\nv1/2.jpg,v,2,ok\nb.jpg,v,3,ok,\n")
    assert [str(note) for note in table.attrs["notes"]] == [
        "1 row has fewer values than the header; those at the end are empty (the first: 'row 2')"
    ]


def test_values_of_several_lines_are_kept(csv: Path, images: Path) -> None:
    note = "back light, two hands,\nthumb"
    table = read(csv, images, HEADER.replace("\n", ",note\n") + f'v1/1.jpg,v,1,ok,"{note}"\n')
    assert table["note"].tolist() == [note]


def test_rows_without_a_value_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + ",,,\nv1/1.jpg,v,1,ok\n,,,\n")
    assert table["frame_path"].tolist() == ["v1/1.jpg"]
    assert [str(note) for note in table.attrs["notes"]] == [
        "2 rows of the labels have no value, and are left out (the first: 'row 1')"
    ]


def test_columns_in_another_spelling_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER.replace("frame_path", "Frame Path") + "v1/1.jpg,v,1,ok\n")
    (note,) = table.attrs["notes"]
    assert (note.kind, note.count, note.example) == ("other_spelling", 1, "Frame Path -> frame_path")
    exact = read(csv, images, HEADER.replace("\n", ",Frame Path\n") + "v1/1.jpg,v,1,ok,else\n")
    assert exact[["frame_path", "Frame Path"]].to_numpy().tolist() == [["v1/1.jpg", "else"]]
    assert [note.kind for note in exact.attrs["notes"]] == ["similar_columns"]


FRAME = pd.DataFrame(
    {
        "frame_path": ["v1/1.jpg", "gone.jpg"],
        "video_name": pd.Categorical(["v1", "v2"]),
        "frame_id": [1.0, 2.0],
        "class_name": ["ok", "mute"],
        "age": [31, None],
        "score": [0.1, 2.5],
        "box": [[1, 2], None],
        "mixed": ["a", 3],
    },
    index=[7, 9],
)


def test_numbers_of_any_size_are_text(images: Path) -> None:
    rows = FRAME.assign(user=[2**128, None], frame_id=[1, 2**70])
    with pytest.raises(TableError, match=f"the first is row 2: the frame_id is not a whole number .*'{2**70}'"):
        frames_csv.read_frames_csv(rows, FolderSource(str(images)), LABELS)
    table = frames_csv.read_frames_csv(rows.assign(frame_id=1), FolderSource(str(images)), LABELS)
    assert table["user"].tolist() == [str(2**128), ""]


@pytest.mark.parametrize("kind", ["DataFrame", "Parquet", "Parquet called csv"])
def test_a_table_of_any_kind_is_the_csv(kind: str, csv: Path, images: Path) -> None:
    labels: Path | pd.DataFrame = FRAME
    if kind != "DataFrame":
        labels = csv if kind.endswith("csv") else csv.with_suffix(".parquet")
        FRAME.astype({"mixed": str}).to_parquet(labels)
    table = frames_csv.read_frames_csv(labels, FolderSource(str(images)), LABELS)
    expected = read(
        csv, images,
        'frame_path,video_name,frame_id,class_name,age,score,box,mixed\n'
        'v1/1.jpg,v1,1,ok,31,0.1,"[1, 2]",a\ngone.jpg,v2,2,mute,,2.5,,3\n',
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, expected)
    if kind == "DataFrame":
        indexed = FRAME.set_index(["frame_path", "video_name"])
        other = frames_csv.read_frames_csv(indexed, FolderSource(str(images)), LABELS)
        pd.testing.assert_frame_equal(other[table.columns], table)
    is_same = table.attrs["labels_sha256"] == expected.attrs["labels_sha256"]
    assert is_same == (kind == "DataFrame")  # whose sha256 is that of the csv


def test_text_of_a_damaged_parquet_file_that_is_not_utf_8(tmp_path: Path) -> None:
    table = pd.DataFrame({"frame_path": ["cafe/1.jpg"], "video_name": "cafe", "frame_id": 1, "class_name": "ok"})
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "labels.parquet", compression="none")
    content = (tmp_path / "labels.parquet").read_bytes()
    (tmp_path / "labels.parquet").write_bytes(content.replace(b"cafe", b"caf\xe9"))
    with pytest.raises(TableError, match=r"labels.parquet: this Parquet file is damaged: .*Invalid UTF8.*export it"):
        read_table(tmp_path / "labels.parquet", [])
    with pytest.raises(TableError, match=r"the DataFrame: a column holds neither text.*Invalid UTF8"):
        read_table(pd.read_parquet(tmp_path / "labels.parquet"), [])


def test_rows_of_a_data_frame_are_refused_by_number(images: Path) -> None:
    rows = FRAME.assign(class_name=["ok", None])
    with pytest.raises(TableError, match="the DataFrame: 1 row is wrong; the first is row 2: the class_name is not"):
        frames_csv.read_frames_csv(rows, FolderSource(str(images)), LABELS)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pd.concat([FRAME, FRAME[["age"]]], axis=1), "the column 'age' appears twice"),
        (FRAME.assign(age=[b"\xff\xd8", b"\xff"]), "the column 'age' holds bytes, perhaps images, which are not read"),
        (FRAME.assign(age=[{"bytes": b"\xff", "path": None}] * 2), "the column 'age' holds bytes, perhaps images"),
        (FRAME.assign(age=[1j, 2j]), "a column holds neither text, numbers nor times"),
    ],
    ids=["twice", "bytes", "images of Hugging Face", "complex"],
)
def test_a_data_frame_that_is_no_table_of_labels_is_refused(rows: pd.DataFrame, reason: str, images: Path) -> None:
    with pytest.raises(TableError, match=f"the DataFrame: {reason}"):
        frames_csv.read_frames_csv(rows, FolderSource(str(images)), LABELS)


def test_labels_may_be_a_data_frame(images: Path, tmp_path: Path) -> None:
    config = make_config(images=str(images), labels=str(tmp_path / "none.csv"), output=str(tmp_path / "run"))
    source = sources.open_source(config.data.images)
    table = frame_table.read_labels(config, source, FRAME)
    assert table["on_disk"].tolist() == [True, False]
    again = frame_table.read_labels(config, source, FRAME.assign(age=0))
    assert again.attrs["labels_sha256"] != table.attrs["labels_sha256"]


# -- names

FORMS = {form: unicodedata.normalize(form, "Zo\u00eb") for form in ("NFC", "NFD")}


@pytest.mark.parametrize("on_disk", ["NFC", "NFD", "blank"])
@pytest.mark.parametrize("in_csv", ["NFC", "NFD", "blank"])
def test_files_are_found_in_another_spelling(on_disk: str, in_csv: str, csv: Path, tmp_path: Path) -> None:
    names = FORMS | {"blank": FORMS["NFC"] + " "}
    images = tmp_path / "named"
    (images / names[on_disk]).mkdir(parents=True)
    (images / names[on_disk] / "1.jpg").write_bytes(b"hello")
    path = f"{names[in_csv]}/1.jpg"
    table = read(csv, images, f"{HEADER}{path},v,1,ok\n")
    assert table["frame_path"].tolist() == [path]  # the spelling of the csv
    assert table["on_disk"].tolist() == [True]
    assert [note.kind for note in table.attrs["notes"]] == ["respelled"] * (on_disk != in_csv)
    assert table.attrs["unlisted"] == 0
    ((_, content),) = FolderSource(str(images)).read_frames([path])
    assert content == b"hello"


def test_both_forms_in_a_folder_are_two_files(csv: Path, tmp_path: Path) -> None:
    images = tmp_path / "named"
    images.mkdir()
    for form, name in FORMS.items():
        (images / f"{name}.jpg").write_text(form)
    rows = "".join(f"{name}.jpg,{form},1,ok\n" for form, name in FORMS.items())
    table = read(csv, images, f"{HEADER}{rows}{FORMS['NFC']} .jpg,v,1,ok\n")
    assert table["on_disk"].tolist() == [True, True, False]
    assert [note.kind for note in table.attrs["notes"]] == ["twins"]
    source = FolderSource(str(images))
    assert [content for _, content in source.read_frames(table["frame_path"][:2])] == [b"NFC", b"NFD"]
    ((_, ambiguous),) = source.read_frames([f"{FORMS['NFC']}.jpg "])
    assert "2 names in the folder differ from" in str(ambiguous)


def test_another_spelling_does_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_text("secret")
    ((_, found),) = FolderSource(str(tmp_path / "images")).read_frames([" ../secret.jpg"])
    assert isinstance(found, FileNotFoundError)


def test_one_file_in_two_spellings_is_noted_or_refused(csv: Path, tmp_path: Path) -> None:
    images = tmp_path / "named"
    images.mkdir()
    (images / f"{FORMS['NFD']}.jpg").touch()
    row = "{}.jpg,v,{},{}\n"
    text = HEADER + row.format(FORMS["NFD"], 1, "ok") + row.format(FORMS["NFC"], 2, "ok")
    assert [note.kind for note in read(csv, images, text).attrs["notes"]] == ["respelled", "same_file"]
    text = HEADER + row.format(FORMS["NFD"], 1, "ok") + row.format(FORMS["NFC"], 2, "mute")
    assert "row 1: the frame has two classes, in two spellings of its name" in get_refusal(csv, images, text)
    text = HEADER + row.format(FORMS["NFD"], 1, "ok") + row.format(FORMS["NFC"], 1, "ok").replace(",v,", ",w,")
    assert "row 1: the frame has two groups, in two spellings of its name" in get_refusal(csv, images, text)


@pytest.mark.parametrize(
    "name", ["at 5.04\u202fPM", "anna\u00a0b", "\u200eanna", "an\u200bna", "anna\u2060", "na\u00efve"]
)
@pytest.mark.parametrize("is_stored", [True, False])
def test_names_that_look_the_same_are_found(name: str, is_stored: bool, csv: Path, tmp_path: Path) -> None:
    plain = fold_name(name)
    stored, asked = (name, plain) if is_stored else (plain, name)
    images = tmp_path / "named"
    images.mkdir()
    (images / f"{stored}.jpg").write_bytes(b"hello")
    table = read(csv, images, HEADER + f"{asked}.jpg,v,1,ok\n")
    assert (table["frame_path"].tolist(), table["on_disk"].tolist()) == ([f"{asked}.jpg"], [True])
    assert [note.kind for note in table.attrs["notes"]] == ["respelled"] * (plain != name)
    assert list(FolderSource(str(images)).read_frames([f"{asked}.jpg"])) == [(f"{asked}.jpg", b"hello")]


def test_names_that_look_different_are_others() -> None:
    assert (
        len({fold_name(name) for name in ("a b", "a  b", "ab", "A b", "a_b", "\u0645\u200c\u0645", "\u0645\u0645")})
        == 7
    )


def test_groups_that_differ_by_form_or_blanks_are_one(csv: Path, images: Path, tmp_path: Path) -> None:
    names = [FORMS["NFD"], FORMS["NFC"], FORMS["NFC"] + " ", "zo\u00eb", "ben"]
    csv.write_text(HEADER + "".join(f"{k}.jpg,{name},{k},ok\n" for k, name in enumerate(names)))
    config = make_config(images=str(images), labels=str(csv), output=str(tmp_path / "run"))
    table = read_labels(config)
    assert table["video_name"].tolist() == [FORMS["NFD"]] * 3 + ["zo\u00eb", "ben"]
    note, similar = table.attrs["notes"]
    assert (note.kind, note.count) == ("respelled_group", 2)
    assert "decomposed" in str(note)
    assert (similar.kind, similar.count) == ("similar_group", 1)  # a capital


@pytest.mark.parametrize(
    ("names", "groups", "similar"),
    [
        (["12.0", "12", "12.00 "], 1, 0),  # as pandas writes a number beside empty values
        (["anna b", "anna\u00a0b", "an\u200bna b"], 1, 0),
        (["12", "012", "12.5"], 3, 1),
        (["user_1", "User 01", "user-1"], 3, 2),
        (["1_1", "11", "1_10", "v1", "v10"], 5, 0),
        (["Anna", "Ann\u00e4", "Anne"], 3, 0),
    ],
)
def test_groups_that_may_be_one_are_told(
    names: list[str], groups: int, similar: int, csv: Path, images: Path, tmp_path: Path
) -> None:
    csv.write_text(HEADER + "".join(f"{k}.jpg,{name},{k},ok\n" for k, name in enumerate(names)))
    table = read_labels(make_config(images=str(images), labels=str(csv), output=str(tmp_path / "run")))
    assert table["video_name"].nunique() == groups
    counts = {note.kind: note.count for note in table.attrs["notes"]}
    assert (counts.get("similar_group", 0), counts.get("respelled_group", 0)) == (similar, len(names) - groups)


def test_classes_that_differ_by_form_or_blanks_are_read(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "a.jpg,v,1,ok \nb.jpg,v,2,ok\n")
    assert table["label"].tolist() == [LABELS["ok"]] * 2
    assert [note.kind for note in table.attrs["notes"]] == ["respelled_class"]


def test_rows_with_one_number_in_a_video_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "a.jpg,v,1,ok\nb.jpg,v,01,ok\nc.jpg,w,1,ok\n")
    (note,) = table.attrs["notes"]
    assert (note.kind, note.count, note.example) == ("repeated_frame_id", 1, "b.jpg: v, 1")


def test_labels_that_are_numbered_automatically(csv: Path, images: Path, tmp_path: Path) -> None:
    csv.write_text(HEADER + "a.jpg,v,1,palm\nb.jpg,v,2,fist\nc.jpg,v,3,palm \n")
    (tmp_path / "auto.yml").write_text(f"labels: auto\ndata: {{images: {images}, labels: {csv}, output: run}}\n")
    config = load_config(tmp_path / "auto.yml")
    source = sources.open_source(config.data.images)
    with pytest.raises(ConfigError, match=r"vocabulary\.number_labels"):
        frame_table.read_labels(config, source)
    config = vocabulary.number_labels(config, source)
    assert config.labels == {"fist": 0, "palm": 1}
    table = frame_table.read_labels(config, source)
    assert table["label"].tolist() == [1, 0, 1]
    csv.write_text(HEADER + "a.jpg,v,1,all\n")
    with pytest.raises(ConfigError, match="'all' is the name of the last row of tables"):
        vocabulary.number_labels(dataclasses.replace(config, labels={}, labels_are_auto=True), source)
    csv.write_text(HEADER + "a.jpg,v,1,Palm\nb.jpg,v,2,palm\n")
    with pytest.raises(TableError, match="'Palm', 'palm' differ in case or punctuation alone"):
        vocabulary.number_labels(dataclasses.replace(config, labels={}, labels_are_auto=True), source)
    later = dataclasses.replace(config, labels_are_auto=True)  # as `resume_config` returns it
    csv.write_text(HEADER + "a.jpg,v,1,call\nb.jpg,v,2,palm\n")
    assert vocabulary.number_labels(later, source).labels == {"fist": 0, "palm": 1, "call": 2}


# -- unreachable sources

GONE = "nowhere: the images folder cannot be read: No such file or directory; give it as `images`"


@pytest.mark.parametrize(("location", "reason"), [("nowhere", GONE), ("empty", "empty lists nothing")])
def test_the_table_of_an_unreachable_source_is_read(location: str, reason: str, csv: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table = read(csv, tmp_path / location, HEADER + "a.jpg,v,1,ok\n")
    assert table["on_disk"].tolist() == [False]
    assert table["stamp"].isna().all()
    assert table.attrs["unreachable"] == f"{tmp_path}/{reason}"
    assert frame_table.list_notes(table) == []  # no frame counts as missing
    table = frame_table.select_frames(table, ["ok"])
    assert (
        frame_table.summarize_frames(table) == f"1 frame, 1 wanted; the source cannot be reached: {tmp_path}/{reason}"
    )


@pytest.mark.parametrize("location", ["nowhere", "empty"])
def test_on_disk_is_taken_from_an_earlier_run(location: str, csv: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    rows = "v1/1.jpg,v,1,ok\ngone.jpg,v,2,ok\nv1/2.jpg,v,3,ok\n"
    earlier = frame_table.select_frames(read(csv, images, HEADER + rows), ["ok"])
    csv.write_text(HEADER + "new.jpg,v,4,mute\n" + rows)
    config = make_config(images=str(tmp_path / location), labels=str(csv), output=str(tmp_path / "run"))
    table = read_after_run(config, earlier)
    assert table["frame_path"].tolist() == ["new.jpg", "v1/1.jpg", "gone.jpg", "v1/2.jpg"]
    assert table["on_disk"].tolist() == [False, True, False, True]
    assert table["stamp"].isna().all()
    assert location in table.attrs["unreachable"]
    config = make_config(images=str(images), labels=str(csv), output=str(tmp_path / "run"))
    again = read_after_run(config, earlier)  # the source is back: the earlier table is ignored
    assert again["stamp"].isna().tolist() == [True, False, True, False]
    assert again.attrs["unreachable"] is None


def read_after_run(config: Config, earlier: pd.DataFrame) -> pd.DataFrame:
    """Read the labels of a configuration whose output folder has a run with another frame table."""
    run_tables.write_frames(store.open_store(config.data.output), earlier)
    return read_labels(config)


def read_labels(config: Config) -> pd.DataFrame:
    """Read the labels of a configuration and match them with its source."""
    return frame_table.read_labels(config, sources.open_source(config.data.images, config.data.source_type))


def annotations(folder: Path, *images: str) -> Path:
    """Write HaGRID's annotations."""
    folder.mkdir(exist_ok=True)
    records = {image: {"bboxes": [[0.1, 0.1, 0.5, 0.5]], "labels": ["ok"], "user_id": "ann"} for image in images}
    (folder / "ok.json").write_text(json.dumps(records))
    return folder


def test_a_table_survives_its_file_in_a_run(csv: Path, images: Path, tmp_path: Path) -> None:
    rows = "v1/1.jpg,v,1,ok,640\nv1/1.jpg,v,1,ok,640\ngone.jpg,v,2,ok,640\n"
    table = frame_table.select_frames(read(csv, images, HEADER.strip() + ",width\n" + rows), ["ok"])
    run_tables.write_frames(store.open_store(str(tmp_path / "run")), table)
    earlier = run_tables.read_frames(store.open_store(str(tmp_path / "run")))
    assert earlier is not None
    assert earlier.attrs == table.attrs
    assert frame_table.summarize_frames(earlier) == frame_table.summarize_frames(table)
    assert [note.kind for note in frame_table.list_notes(earlier)] == ["repeated", "unlisted", "missing", "renamed"]
    config = make_config(images=str(tmp_path / "nowhere"), labels=str(csv), output=str(tmp_path / "run"))
    assert read_labels(config)["on_disk"].tolist() == [True, False]


@pytest.mark.parametrize("location", ["nowhere", "empty"])
def test_hagrid_reuses_the_table_of_an_earlier_run(location: str, tmp_path: Path) -> None:
    labels = annotations(tmp_path / "labels", "a", "b")
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.jpg").touch()
    here = make_config(images=str(tmp_path / "images"), labels=str(labels))
    whole = read_labels(here)
    earlier = frame_table.select_frames(whole, ["ok"], 1)
    gone = make_config(images=str(tmp_path / location), labels=str(labels), output=str(tmp_path / "run"))
    table = read_after_run(gone, earlier)
    pd.testing.assert_frame_equal(table.drop(columns="stamp"), whole.drop(columns="stamp"))
    assert table["stamp"].isna().all()
    assert table.attrs == whole.attrs | {"unreachable": table.attrs["unreachable"]}
    assert location in table.attrs["unreachable"]
    annotations(labels, "a", "c")  # other labels: the earlier table cannot stand in
    with pytest.raises(SourceError, match=location):
        read_labels(gone)


def test_hagrid_accepts_an_empty_folder_without_an_earlier_run(tmp_path: Path) -> None:
    labels = annotations(tmp_path / "labels", "a")
    (tmp_path / "empty").mkdir()
    config = make_config(images=str(tmp_path / "empty"), labels=str(labels))
    table = read_labels(config)
    assert table[["frame_path", "on_disk"]].to_numpy().tolist() == [["ok/a.jpg", False]]
    assert table.attrs["unreachable"] == f"{tmp_path}/empty lists nothing"
    config = make_config(images=str(tmp_path / "nowhere"), labels=str(labels))
    with pytest.raises(SourceError, match=GONE):
        read_labels(config)


def test_a_file_whose_name_is_not_utf8_is_only_unlisted(csv: Path, images: Path) -> None:
    (images / os.fsdecode(b"\xff\xfe.jpg")).touch()
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\n")
    assert table["on_disk"].tolist() == [True]
    assert table.attrs["unlisted"] == 3
    assert table.attrs["unlisted_names"] == ["other.jpg", "v1/2.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    summary = frame_table.summarize_frames(frame_table.select_frames(table, ["ok"]))
    assert summary.endswith("\n3 files of the source are not named by the labels (the first: 'other.jpg')")


def test_the_first_unlisted_files_are_named(csv: Path, images: Path) -> None:
    for k in range(50):
        (images / f"{k:02d}.jpg").touch()
    table = read(csv, images, HEADER + "v1/1.jpg,v1,1,ok\n")
    assert table.attrs["unlisted_names"] == [f"{k:02d}.jpg" for k in range(20)]
    (note,) = frame_table.list_notes(table)
    assert (note.kind, note.count, note.example) == ("unlisted", 52, "00.jpg")


def test_no_note_if_all_files_are_named(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\nv1/2.jpg,v,2,ok\nother.jpg,v,3,ok\n")
    assert frame_table.list_notes(table) == []
    assert (
        frame_table.summarize_frames(frame_table.select_frames(table, ["ok"]))
        == "3 frames, 3 wanted, 3 found in the source"
    )


def test_missing_frames_are_noted(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\nb.jpg,v,2,ok\na.jpg,v,3,ok\n")
    notes = frame_table.list_notes(frame_table.select_frames(table, ["ok"]))
    assert [(note.kind, note.count, note.example) for note in notes] == [
        ("unlisted", 2, "other.jpg"),
        ("missing", 2, "b.jpg"),
    ]


@pytest.mark.parametrize(
    ("classes", "limit", "wanted"),
    [
        (["ok", "mute"], None, [True, False, True, True]),
        (["ok"], None, [True, False, False, True]),
        (["ok", "mute"], 2, [True, False, True, False]),
        (["ok", "mute"], 99, [True, False, True, True]),
        (["stop"], None, [False] * 4),
    ],
)
def test_select_frames(classes: list[str], limit: int | None, wanted: list[bool], csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\nb,v,2,like\nc,w,3,mute\nd,w,4,ok\n")
    selected = frame_table.select_frames(table, classes, limit)
    assert selected["wanted"].tolist() == wanted
    assert selected.attrs == table.attrs | {"classes": classes}
    assert "wanted" not in table


def test_count_frames(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\nb,v,2,like\nc,w,3,mute\nd,w,4,ok\n")
    counts = frame_table.count_frames(frame_table.select_frames(table, ["ok"], 1))
    assert counts.loc["ok", ["videos", "frames", "missing", "wanted"]].tolist() == [2, 2, 1, 1]
    assert counts.index.tolist() == ["mute", "ok", "like"]  # in the order of their labels


def test_two_hundred_thousand_rows_are_read(csv: Path, images: Path) -> None:
    rows = "".join(f"video{i % 3000}/{i}.jpg,video{i % 3000},{i},{'ok' if i % 3 else 'like'}\n" for i in range(200_000))
    table = frame_table.select_frames(read(csv, images, HEADER + rows), ["ok"], 100_000)
    assert table["wanted"].sum() == 100_000
    get_refusal(csv, images, HEADER + rows + rows.replace("like", "stop"))


def test_left_out_frames_of_no_gesture_are_noted_apart(csv: Path, images: Path) -> None:
    table = read(csv, images, HEADER + "v1/1.jpg,v,1,ok\nb,v,2,no_gesture\nc,w,3,no_gesture\nd,w,4,ok\ne,w,5,stop\n")

    def list_left_out(classes: list[str], limit: int | None = None) -> list[str]:
        notes = frame_table.list_notes(frame_table.select_frames(table, classes, limit))
        return [str(note) for note in notes if note.kind in ("no_gesture", "left_out")]

    take = "frames of no_gesture are left out; to take them: classes = \"ok,no_gesture\" (the first: 'b')"
    others = "frame is left out: of another class, or past the limit (the first: 'e')"
    assert list_left_out(["ok"]) == [f"2 {take}", f"1 {others}"]
    # Nothing is to be added if they are wanted, and only the limit leaves them out.
    assert list_left_out(["ok", "no_gesture"]) == [f"1 {others}"]
    first = "4 frames are left out: of another class, or past the limit (the first: 'b')"
    assert list_left_out(["ok", "no_gesture"], 1) == [first]


# -- frames that are elsewhere


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("images/v1/1.jpg", "without 'images' in front"),
        ("data/images/v1/1.jpg", "without 'data/images' in front"),
        ("v1\\1.jpg", "with / instead of \\"),
        ("C:\\Users\\Ann\\images\\v1\\1.jpg", "without 'C:/Users/Ann/images' in front"),
        ("v%31/1.jpg", "with blanks and the like instead of %20"),
        ("v3/1.jpg", "in other folders"),
        ("V1/1.JPG", "in another case"),
        ("v1/1.png", "with another ending"),
        ("v1/1", "with another ending"),
    ],
)
def test_frames_that_would_be_found_in_another_form_are_told(path: str, how: str, csv: Path, images: Path) -> None:
    table = read(csv, images, f"{HEADER}{path},v,1,ok\n")
    (note,) = table.attrs["notes"]
    assert (note.kind, note.example) == ("misplaced", path)
    assert str(note).startswith(f"1 missing frame would be found {how}")
    config = make_config(images=str(images), labels=str(csv), output=str(csv.parent / "run"))
    wanted = frame_table.select_frames(table, ["ok"])
    with pytest.raises(run.RunError, match=re.escape(f"1 missing frame would be found {how}")):
        run.detect_frames(wanted, FolderSource(str(images)), config, config.data.output)


def test_frames_below_a_folder_that_the_labels_leave_out_are_told(csv: Path, tmp_path: Path) -> None:
    (tmp_path / "all" / "frames" / "v1").mkdir(parents=True)
    (tmp_path / "all" / "frames" / "v1" / "1.jpg").touch()
    (note,) = read(csv, tmp_path / "all", f"{HEADER}v1/1.jpg,v,1,ok\n").attrs["notes"]
    assert str(note).startswith("1 missing frame would be found with 'frames' in front")


def test_frames_that_are_nowhere_have_no_hint(csv: Path, images: Path) -> None:
    assert read(csv, images, f"{HEADER}w/7.jpg,v,1,ok\nw/8.jpg,v,2,ok\n").attrs["notes"] == []
