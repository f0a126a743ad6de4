"""Tables of labels: a csv, a Parquet file or a DataFrame, read as text."""

from __future__ import annotations

import contextlib
import csv
import difflib
import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectime.labels.csv_files import (
    SEPARATORS,
    CsvFile,
    Header,
    explain_break,
    find_short_rows,
    hash_text,
    normalize_column,
    read_header,
    recognise_table,
)
from detectime.labels.tables import TableError
from detectime.notes import Note, note_found, shorten_text
from detectime.storage import urls

LabelTable = str | os.PathLike[str] | pd.DataFrame
"""The path or URL of a csv or Parquet file, or its content."""

OTHER_SPELLING = ("column is read in another spelling", "columns are read in another spelling")
"""Of a note: one, and several."""

_VIDEOS = ("video", "videos", "video_path", "clip", "movie")
_SIMILAR = {
    "frame_path": ("path", "filepath", "filename", "file", "image", "img", "images", "frame"),
    "file": ("file", *_VIDEOS, "filename", "path", "filepath"),
    "video_name": ("video", "person", "user", "subject", "group", "clip", "sequence"),
    "frame_id": ("frame", "number", "index", "id"),
    "class_name": ("class", "label", "gesture", "category", "target", "name"),
}
"""Words in the names of columns that may be meant by one that is needed."""
_MEANINGS = {
    "frame_path": "the file of each frame, relative to `images`",
    "file": "the file of each video, relative to `images`",
    "video_name": "the video or person of each frame, which a split must not divide",
    "frame_id": "a whole number for each frame, such as its number in the video",
    "class_name": "the class of each row",
}
"""What a column that is needed holds."""
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_LINE_BREAK = r"\r\n|\r|\n"
_MAX_SHOWN = 20  # names that a message lists


def read_columns(table: LabelTable) -> list[str]:
    """Return the column names of a table of labels.

    Raises
    ------
    TableError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     _ = file.write(b"file;start; end ;class\\nanna.mp4;1;2;ok\\n")
    ...     file.flush()
    ...     read_columns(file.name)
    ['file', 'start', 'end', 'class']
    """
    if isinstance(table, pd.DataFrame):
        return [str(name).strip() for name in _include_index(table).columns]
    with _explain_file_errors(table), _open_file(table) as file:
        if recognise_table(file, table) == "parquet":
            return _list_parquet_columns(pq.ParquetFile(file).schema_arrow)
        return read_header(file, table).names


def read_table(table: LabelTable, needed: Sequence[str]) -> tuple[pd.DataFrame, list[Note]]:
    """Read a table of labels as text.

    A csv is in UTF-8, separated by commas, semicolons or tabs.

    Parameters
    ----------
    table
        The file or DataFrame, whose index is read as far as it has names that no column has.
    needed
        Columns that it must have. One in another spelling, such as ``Frame Path`` for ``frame_path``, is understood.

    Returns
    -------
    DataFrame, list of Note
        All columns as text, empty where there is no value, surrounding blanks stripped from their names, needed ones in
        the spelling of `needed`; ``attrs`` holds `labels_sha256`, the SHA-256 of the file in hexadecimal, or of a
        DataFrame as csv. And notes: columns in another spelling, and those without a name.

    Raises
    ------
    TableError
        If it cannot be read, has no rows, lacks a column or has one twice. A row with too many values is named.

    Examples
    --------
    >>> rows, notes = read_table(pd.DataFrame({"Class Name": ["ok"], "frame_id": [3]}), ["class_name"])
    >>> rows.to_dict("records")
    [{'class_name': 'ok', 'frame_id': '3'}]
    >>> print(*notes)
    1 column is read in another spelling (the first: 'Class Name -> class_name')
    """
    short: list[Note] = []
    if isinstance(table, pd.DataFrame):
        table = _include_index(table)
        _check_unique([str(name).strip() for name in table.columns], "the DataFrame")
        try:
            rows = _convert_to_text(_convert_frame(table), "the DataFrame")
        except TableError:
            raise
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise TableError(f"the DataFrame: a column holds neither text, numbers nor times: {reason}") from error
        digest = hashlib.sha256(rows.to_csv(index=False).encode(errors="surrogatepass")).hexdigest()
    else:
        rows, digest, short = _read_file(table, needed)
    where = describe_table(table)
    renamed = match_columns(list(rows.columns), needed)
    _check_needed(list(rows.columns), [name for name in needed if name not in renamed.values()], where)
    rows = rows.rename(columns=renamed)
    notes = note_found("other_spelling", [f"{old} -> {new}" for old, new in renamed.items()], *OTHER_SPELLING)
    alike = [str(name) for name in rows if name not in needed and normalize_column(str(name)) in needed]
    why = "called almost as one that is read"
    notes += note_found("similar_columns", alike, f"further column is {why}", f"further columns are {why}")
    rows, unnamed = _name_columns(rows)
    rows, blank = _drop_blank_rows(rows)
    _check_unique(list(rows.columns), where)
    if rows.empty:
        raise TableError(f"{where}: the table has no rows")
    rows.attrs = {"labels_sha256": digest}
    return rows, [*notes, *unnamed, *blank, *short]


def hash_labels(table: LabelTable) -> str:
    """Return the SHA-256 of a table of labels in hexadecimal: see `read_table`.

    Raises
    ------
    TableError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".csv") as file:
    ...     hash_labels(file.name)[:16]
    'e3b0c44298fc1c14'
    """
    if isinstance(table, pd.DataFrame):
        return str(read_table(table, ())[0].attrs["labels_sha256"])
    with _explain_file_errors(table), _open_file(table) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_table(table: LabelTable) -> str:
    """Return what messages call a table.

    Examples
    --------
    >>> describe_table("train.csv"), describe_table(pd.DataFrame())
    ('train.csv', 'the DataFrame')
    """
    return "the DataFrame" if isinstance(table, pd.DataFrame) else os.fspath(table)


def match_columns(names: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Map columns in another spelling to those that are wanted: another case, blanks or hyphens.

    Examples
    --------
    >>> match_columns(["FramePath", "class name", "frame_id"], ["frame_path", "class_name", "frame_id"])
    {'FramePath': 'frame_path', 'class name': 'class_name'}
    """
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(normalize_column(name), []).append(name)
    found = {}
    for name in wanted:
        others = spellings.get(name, [])
        if name not in names and len(others) == 1:
            found[others[0]] = name
    return found


def _read_file(path: str | os.PathLike[str], needed: Sequence[str]) -> tuple[pd.DataFrame, str, list[Note]]:
    """Read a csv or Parquet file; also return its SHA-256, and a note about rows with too few values."""
    with _explain_file_errors(path), _open_file(path) as file:
        if recognise_table(file, path) == "parquet":
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return _convert_to_text(pq.read_table(file), os.fspath(path)), digest, []
        digest = hash_text(file, path)
        file.seek(0)
        header = read_header(file, path)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops surplus fields and only warns
                rows = pd.read_csv(
                    file,
                    sep=header.separator,
                    skiprows=header.skipped,
                    encoding="utf-8-sig",
                    dtype=str,
                    keep_default_na=False,
                    index_col=False,
                )
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            raise TableError(f"{os.fspath(path)}: {explain_break(file, header, str(error))}") from error
        if len(rows.columns) != len(header.names):
            raise TableError(
                f"{path}: the header has {len(header.names)} columns, but the rows have {len(rows.columns)}"
            )
        rows.columns = pd.Index(header.names)  # pandas renames some, such as empty ones
        _refuse_swallowed_rows(rows, header.separator, path)
        # pandas fills rows with empty values.
        short = _note_short_rows(file, header, needed, path) if (rows.iloc[:, -1] == "").any() else []
    return rows, digest, short


def _refuse_swallowed_rows(rows: pd.DataFrame, separator: str, path: object) -> None:
    """Refuse a value that holds line breaks, and just as many separators as the rows that an open quote swallows."""
    for position, name in enumerate(rows.columns):
        values = pa.array(rows.iloc[:, position])
        for row in pc.indices_nonzero(pc.match_substring_regex(values, _LINE_BREAK)).to_pylist():
            value = values[row].as_py()
            breaks = len(re.findall(_LINE_BREAK, value))
            if value.count(separator) == breaks * (len(rows.columns) - 1) > 0:
                raise TableError(
                    f"{path}: row {row + 1} (row 1 follows the header) has a line break in {shorten_text(name)}: "
                    f"{shorten_text(value)}; a quote in front of it is not closed, so that it goes on to row "
                    f"{row + 1 + breaks}: close it, or remove it"
                )


def _note_short_rows(file: CsvFile, header: Header, needed: Sequence[str], path: object) -> list[Note]:
    """Note rows with fewer values than the header; refuse one that lacks a value of a needed column."""
    spellings = match_columns(header.names, needed)
    last = max((k for k, name in enumerate(header.names) if spellings.get(name, name) in needed), default=-1)
    short = []
    for row, values in find_short_rows(file, header):
        short.append(row)
        if len(values) <= last:
            shown = ", ".join(shorten_text(value) for value in values)
            why = "a value is missing, or the file is cut off"
            if any(separator in values[0] for separator in SEPARATORS) and len(values) == 1:
                why = f"separate its values by {header.separator!r}, as those of the header are"
            raise TableError(
                f"{path}: row {row} (row 1 follows the header) has {len(values)} values, the header "
                f"{len(header.names)}: {shown}; {why}"
            )
    why = "fewer values than the header; those at the end are empty"
    return note_found("short_rows", [f"row {row}" for row in short], f"row has {why}", f"rows have {why}")


def _list_parquet_columns(schema: pa.Schema) -> list[str]:
    return [name.strip() for name in schema.names if not name.startswith("__index_level_")]


def _include_index(table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in table.index.names if name is not None and name not in table.columns]
    return table.reset_index(names) if names else table


def _convert_frame(table: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(table, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # a column of mixed types, or of huge numbers
        plain = table.copy(deep=False)
        for position in range(len(table.columns)):
            column = table.iloc[:, position]
            try:
                pa.array(column, from_pandas=True)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                if pd.api.types.is_object_dtype(column.dtype):
                    plain.isetitem(position, [None if value is None else str(value) for value in column])
        return pa.Table.from_pandas(plain, preserve_index=False)


def _convert_to_text(table: pa.Table, where: str) -> pd.DataFrame:
    """Convert columns of any type to text: whole floats as whole numbers, lists and structs as JSON."""
    table.validate(full=True)  # in a damaged file, text need not be UTF-8
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    for name in names:
        if _holds_bytes(table.schema.field(table.column_names.index(name)).type):
            raise TableError(
                f"{where}: the column {shorten_text(name)} holds bytes, perhaps images, which are not read from a "
                "table; write them to files, and name these in a column frame_path"
            )
    columns = [_convert_column(table.column(table.column_names.index(name))) for name in names]
    rows = pd.concat([column.to_pandas() for column in columns], axis=1) if columns else pd.DataFrame()
    rows.columns = pd.Index([name.strip() for name in names])
    return rows


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(position).type) for position in range(kind.num_fields))
    return any(check(kind) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _convert_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.large_string())])
    elif pa.types.is_duration(kind):
        column = pc.divide(column.cast(pa.int64()).cast(pa.float64()), _PER_SECOND[kind.unit])
    elif pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)  # pandas has no other null in a column of floats
        if pc.all(pc.equal(column, pc.round(column)), min_count=0).as_py() and _fits_integers(column):
            column = column.cast(pa.int64())
    return pc.fill_null(column.cast(pa.large_string()), "")


def _fits_integers(column: pa.ChunkedArray) -> bool:
    largest = pc.max(pc.abs(column)).as_py()
    return largest is None or largest < 2**53


def _name_columns(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """Drop columns without name and value, as spreadsheets add them, and name those without name alone."""
    names = list(rows.columns)
    unnamed = [position for position, name in enumerate(names) if not name]
    if not unnamed:
        return rows, []
    empty = [position for position in unnamed if (rows.iloc[:, position] == "").all()]
    kept = [position for position in unnamed if position not in empty]
    for position in kept:
        names[position] = _find_free_name(f"column_{position + 1}", names)
    rows = rows.copy(deep=False)
    rows.columns = pd.Index(names)
    rows = rows.iloc[:, [position for position in range(len(names)) if position not in empty]]
    one, many = (
        "column of the labels has no name, and is kept as",
        "columns of the labels have no name, and are kept as",
    )
    text = f"{one if len(kept) == 1 else many} {', '.join(names[position] for position in kept)}"
    dropped = [f"column {position + 1}" for position in empty]
    one, many = (
        "column of the labels has neither a name nor a value",
        "columns of the labels have neither a name nor a value",
    )
    return rows, [
        *([Note("unnamed", len(kept), text)] if kept else []),
        *note_found("empty_columns", dropped, one, many),
    ]


def _drop_blank_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Note]]:
    """Drop rows without any value, as spreadsheets write below a table."""
    if rows.empty or not (rows.iloc[:, 0] == "").any():
        return rows, []
    is_blank = (rows == "").all(axis=1)
    shown = [f"row {row + 1}" for row in rows.index[is_blank]]
    one, many = "row of the labels has no value, and is left out", "rows of the labels have no value, and are left out"
    return rows[~is_blank], note_found("blank_rows", shown, one, many)


def _find_free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _check_needed(names: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Refuse a file that lacks a column."""
    for column in needed:
        if column not in names:
            present = ", ".join(shorten_text(name) for name in names[:_MAX_SHOWN])
            raise TableError(
                f"{where}: the column {column} is missing; {_suggest(column, names)}; it has {present or 'none'}"
            )


def _suggest(column: str, names: Sequence[str]) -> str:
    """Return what to do about a column that is missing."""
    if len(names) == 1:
        return "separate the columns by commas, semicolons or tabs"
    words = _SIMILAR.get(column, ())
    videos = [name for name in names if normalize_column(name) in _VIDEOS]
    if column == "frame_path" and videos:
        return f"for videos rename {shorten_text(videos[0])} to file"
    others = _SIMILAR.keys() - ({"video_name"} if column == "file" else ())  # which are needed themselves
    names = [name for name in names if normalize_column(name) not in others]
    similar = [name for name in names if any(word in normalize_column(name).split("_") for word in words)]
    similar += difflib.get_close_matches(column, [name for name in names if name], n=1)
    if similar:
        return f"did you mean {shorten_text(similar[0])}? rename it to {column}"
    return f"add it, {_MEANINGS[column]}"


def _check_unique(names: Sequence[str], where: str) -> None:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise TableError(f"{where}: the column {shorten_text(repeated[0])} appears twice; rename one of them")


def _open_file(path: str | os.PathLike[str]) -> io.BufferedReader | io.BytesIO:
    if not urls.is_remote(str(path)):
        return open(path, "rb")
    try:
        return io.BytesIO(urls.read_url(str(path)))
    except OSError as error:
        if urls.is_remote_folder(str(path)):
            raise TableError(
                f"{path}: a folder of labels cannot be read from a bucket; download it and set `labels` to the copy"
            ) from error
        raise


@contextlib.contextmanager
def _explain_file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file; set `labels` to the csv with the labels") from error
    except OSError as error:
        raise TableError(f"{path}: the labels cannot be read: {urls.describe_error(error)}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: the labels are not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except pa.ArrowException as error:
        raise TableError(
            f"{path}: this Parquet file is damaged: {' '.join(str(error).split())}; export it again"
        ) from error
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise TableError(f"{path}: not a csv file: {' '.join(str(error).split())}") from error
