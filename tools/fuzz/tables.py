"""Changes of tables: csv, lines and Parquet with odd cells, rows, columns, types and encodings.

Each function takes real inputs and returns a strategy of hypothesis for changed ones, as bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tools.fuzz.trees import change_tree, list_places
from tools.fuzz.values import TEXTS, VALUES, choose, choose_index

_MOST_CHANGES = 3
_ENCODINGS = "utf-8 utf-8 utf-8 utf-8 utf-8 utf-8-sig utf-16 latin-1 cp1252"
_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int64(), pa.float64(), pa.bool_())
_MORE_TYPES = (pa.timestamp("us"), pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.int64()))
_PARTS = "a ok stop no_gesture 1 0001 x_1 x-2 é e\u0301 . .. img(1) A".split()
_COLUMN_NAMES = TEXTS.filter(lambda text: "\0" not in text)


def change_csv(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change tables in csv: cells, rows, columns, separators, line ends, the encoding."""
    tables = [_parse_csv(seed) for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        table = _change_rows(draw, draw(st.sampled_from(tables)))
        file = io.StringIO(newline="")
        writer = csv.writer(
            file,
            delimiter=draw(st.sampled_from([",", ",", ",", ";", "\t", "|"])),
            lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
            quoting=csv.QUOTE_ALL if draw(st.booleans()) else csv.QUOTE_MINIMAL,
        )
        writer.writerows(table)
        return file.getvalue().encode(choose(draw, _ENCODINGS), errors="replace")

    return make()


def _parse_csv(content: bytes) -> list[list[str]]:
    text = content.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text), delimiter=";" if ";" in text.splitlines()[0] else ","))


def _change_rows(draw: st.DrawFn, table: Sequence[Sequence[str]]) -> list[list[str]]:
    """Change a few places of a copy of a table."""
    changed = [list(row) for row in table]
    for _ in range(draw(st.integers(1, _MOST_CHANGES))):
        if changed and changed[0]:
            _change_row(draw, changed, choose_index(draw, len(changed)), choose_index(draw, len(changed[0])))
    return changed


def _change_row(draw: st.DrawFn, table: list[list[str]], row: int, column: int) -> None:
    change = choose(draw, "cell cell cell no_row no_column row_twice column_twice fill header short")
    if change == "no_row":
        del table[row]
    elif change == "no_column":
        for cells in table:
            del cells[column : column + 1]
    elif change == "row_twice":
        table.insert(row, list(table[row]))
    elif change == "column_twice":
        for cells in table:
            cells[column:column] = cells[column : column + 1]
    elif change == "fill":
        value = draw(TEXTS)
        for cells in table[1:]:
            cells[column : column + 1] = [value]
    elif change == "short":
        del table[row][column:]
    elif change == "header":
        name = table[0][column]
        near = [name.upper(), name.replace("_", " "), f"{name}s", f" {name} ", "start_time"]
        table[0][column] = draw(TEXTS | st.sampled_from(near))
    elif column < len(table[row]):
        table[row][column] = draw(TEXTS)


def change_words(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change lines of words between blanks."""
    tables = [[line.split() for line in seed.decode().splitlines()] for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        return "\n".join(map(" ".join, _change_rows(draw, draw(st.sampled_from(tables))))).encode()

    return make()


def make_names(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Make lists of names of files, one per line."""
    known = [line for seed in seeds for line in seed.decode().splitlines()]
    names = st.lists(st.sampled_from(_PARTS) | TEXTS, min_size=1, max_size=4).map("/".join)
    lines = st.lists(st.sampled_from(known) | names.map(lambda name: f"{name}.jpg"), min_size=1, max_size=12)
    return lines.map(lambda found: "\n".join(found).encode())


def change_parquet(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Change columns, types, values and metadata of tables in Parquet."""
    tables = [pq.read_table(io.BytesIO(seed)) for seed in seeds]

    @st.composite
    def make(draw: st.DrawFn) -> bytes:
        table = draw(st.sampled_from(tables))
        for _ in range(draw(st.integers(1, _MOST_CHANGES))):
            if table.num_columns:
                table = _change_table(draw, table, choose_index(draw, table.num_columns))
        file = io.BytesIO()
        try:
            pq.write_table(table, file, write_page_checksum=True)
        except pa.ArrowException:  # such as nulls that the schema excludes
            hypothesis.reject()
        return file.getvalue()

    return make()


def _change_table(draw: st.DrawFn, table: pa.Table, number: int) -> pa.Table:
    change = choose(draw, "values values values nulls no_column rename twice rows order metadata type")
    field, column = table.schema.field(number), table.column(number)
    if change == "no_column":
        return table.remove_column(number)
    if change == "rename":
        names = [*table.column_names[:number], draw(_COLUMN_NAMES), *table.column_names[number + 1 :]]
        return table.rename_columns(names)
    if change == "twice":
        return table.append_column(field, column)
    if change == "rows":
        rows = draw(st.lists(st.integers(0, len(table) - 1), max_size=8)) if len(table) else []
        return table.take(pa.array(rows, pa.int64()))
    if change == "order":
        return table.select(draw(st.permutations(range(table.num_columns))))
    if change == "metadata":
        return _change_metadata(draw, table)
    if change == "nulls":
        return table.set_column(number, field.with_nullable(True), pa.nulls(len(table), field.type))
    if change == "type":
        return _change_type(table, number, draw(st.sampled_from([*_TYPES, *_MORE_TYPES])))
    return _change_values(draw, table, number)


def _change_type(table: pa.Table, number: int, kind: pa.DataType) -> pa.Table:
    """Change the type of a column; where its values cannot be converted there are nulls."""
    name, column = table.column_names[number], table.column(number)
    try:
        return table.set_column(number, pa.field(name, kind), column.cast(kind, safe=False))
    except (pa.ArrowException, NotImplementedError):
        return table.set_column(number, pa.field(name, kind), pa.nulls(len(table), kind))


def _change_values(draw: st.DrawFn, table: pa.Table, number: int) -> pa.Table:
    """Change a value in a column, also inside lists, if it fits the type of the column."""
    field, values = table.schema.field(number), table.column(number).to_pylist()
    if not values:
        return table
    row = choose_index(draw, len(values))
    places = list_places(values[row])
    if places and choose(draw, "inside whole") == "inside":
        node, key = places[choose_index(draw, len(places))]
        node[key] = draw(VALUES)
    else:
        values[row] = draw(VALUES)
    try:
        return table.set_column(number, field.with_nullable(True), pa.array(values, field.type))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):  # it does not fit: one value is everywhere
        return table.set_column(number, field, table.column(number).take(pa.array([row] * len(table), pa.int64())))


def _change_metadata(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    metadata = dict(table.schema.metadata or {b"detectime.table": b"detections"})
    key = draw(st.sampled_from(sorted(metadata)))
    try:
        metadata[key] = json.dumps(change_tree(draw, json.loads(metadata[key]))).encode()
    except ValueError:  # it is no JSON
        metadata[key] = draw(TEXTS).encode()
    if draw(st.integers(0, 3)) == 3:
        del metadata[key]
    return table.replace_schema_metadata(metadata)
