"""Columns of the labels keep their values under any name and never clash with those that detectime adds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import LABELS
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from detectime.labels import frame_table, frames_csv, table_files, tables
from detectime.labels.frames_csv import COLUMNS
from detectime.labels.tables import TableError
from detectime.schema import RESERVED_COLUMNS
from detectime.sources.folder import FolderSource

MADE = ("label", "on_disk", "stamp")

_reserved = st.sampled_from(sorted(RESERVED_COLUMNS))
_endings = st.sampled_from(["", "_in_csv", "_in_csv_2", "_in_csv_3", "_in_csv_in_csv", ".1"])
_likely = st.builds(str.__add__, _reserved, _endings) | st.sampled_from(
    [
        "row",
        "x1",
        "y2",
        "score",
        "index",
        "level_0",
        "Unnamed: 4",
        "frame_path_in_csv",
        "names",
        "class",
        "file",
        "start",
    ]
)
_any = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_blanks = st.sampled_from(["", " ", "\t "])
_columns = st.lists(st.builds(lambda before, name, after: before + name + after, _blanks, _likely | _any, _blanks))


def write(path: Path, names: Sequence[str], values: Sequence[str], delimiter: str = ",") -> Path:
    """Write labels with one row."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([names, values])
    path.write_bytes(text.getvalue().encode())
    return path


def read(path: Path) -> pd.DataFrame:
    (path.parent / "images").mkdir(exist_ok=True)
    return frames_csv.read_frames_csv(path, FolderSource(str(path.parent / "images")), LABELS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(_columns, st.sampled_from(",;"), st.randoms(use_true_random=False))
@example(["width", "width_in_csv", "width_in_csv_2", "row", "x1", "label", "outcome", "stamp"], ",", None)
@example(["a;b;c;d;e;f;g;h"], ",", None)
@example(["a\nb", 'c"d', "e,f"], ";", None)
def test_every_column_keeps_its_values(tmp_path: Path, further: list[str], delimiter: str, random: object) -> None:
    names = [*COLUMNS[1:], *further]
    if random is not None:
        random.shuffle(names)  # type: ignore[attr-defined]
    names.insert(0, COLUMNS[0])
    given = dict(zip(COLUMNS, ("a.jpg", "v", "7", "ok"), strict=True))
    values = [given.get(name, f"value {k}") for k, name in enumerate(names)]
    path = write(tmp_path / "labels.csv", names, values, delimiter)
    stripped = [name.strip() for name in names]
    nameless = [position for position, name in enumerate(stripped) if not name]
    for position in nameless:
        stripped[position] = f"column_{position + 1}"
    if len(set(stripped)) < len(stripped):
        with pytest.raises(TableError, match="appears twice; rename one"):
            read(path)
        return
    table = read(path)
    assert len(set(table.columns)) == len(table.columns)
    assert set(MADE) <= set(table.columns)
    renamed = tables.map_reserved_columns(stripped)
    assert set(renamed) == set(stripped) & RESERVED_COLUMNS
    kept = [renamed.get(name, name) for name in stripped]
    assert list(table.columns) == [*kept, *MADE]
    expected = [7 if name == "frame_id" else value for name, value in zip(stripped, values, strict=True)]
    assert table[kept].iloc[0].tolist() == expected
    assert table["label"].tolist() == [LABELS["ok"]]
    assert [note.count for note in table.attrs["notes"] if note.kind == "renamed"] == [len(renamed)] * bool(renamed)


@given(st.lists(_likely, unique=True))
def test_new_names_are_neither_taken_nor_reserved(names: list[str]) -> None:
    renamed = tables.map_reserved_columns(names)
    after = [renamed.get(name, name) for name in names]
    assert len(set(after)) == len(after)
    assert not RESERVED_COLUMNS.intersection(after)
    assert all(new.startswith(f"{name}_in_csv") for name, new in renamed.items())


@pytest.mark.parametrize(
    ("names", "renamed"),
    [
        (["width", "camera"], {"width": "width_in_csv"}),
        (["width", "width_in_csv"], {"width": "width_in_csv_2"}),
        (["width_in_csv_2", "width_in_csv", "width"], {"width": "width_in_csv_3"}),
        (["row", "x1", "face"], {}),
    ],
)
def test_a_reserved_name_gets_an_ending(names: list[str], renamed: Mapping[str, str]) -> None:
    assert tables.map_reserved_columns(names) == renamed


def test_renamed_columns_are_noted(tmp_path: Path) -> None:
    names = [*COLUMNS, "outcome", "width"]
    table = read(write(tmp_path / "labels.csv", names, ["a.jpg", "v", "1", "ok", "paired", "640"]))
    assert table[["outcome_in_csv", "width_in_csv"]].to_numpy().tolist() == [["paired", "640"]]
    (note,) = table.attrs["notes"]
    assert (note.kind, note.count, note.example) == ("renamed", 2, "outcome -> outcome_in_csv")
    assert str(note).startswith("2 columns of the labels were renamed, since detectime adds columns of those names")
    assert note in frame_table.list_notes(table)


def test_a_written_table_can_be_read_as_labels_repeatedly(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", [*COLUMNS, "width"], ["a.jpg", "v", "1", "ok", "640"])
    for time in range(1, 4):
        table = read(path).assign(outcome="paired", width=1)
        table.to_csv(path, index=False)
        assert len(set(table.columns)) == len(table.columns)
        kept = [name for name in table.columns if name.startswith("width_in_csv")]
        assert len(kept) == time
        assert table[kept[0]].tolist() == ["640"]


@given(st.text("abc ;,\"'\n", max_size=20), st.text("abc ;,\"'\n", max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_separator_is_found_for_any_column_names(tmp_path: Path, one: str, other: str) -> None:
    assume(one.strip() != other.strip())
    for delimiter in ",;":
        path = write(tmp_path / "labels.csv", [*COLUMNS, one, other], ["a.jpg", "v", "1", "ok", "1", "2"], delimiter)
        assert table_files.read_columns(path) == [*COLUMNS, one.strip(), other.strip()]
