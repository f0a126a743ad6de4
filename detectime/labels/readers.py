"""The readers of labels by `data.labels_type`, and how the type is recognised."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from detectime.config import Config
from detectime.errors import ConfigError
from detectime.labels import annotated, folders, hagrid, spans, table_files, webdataset
from detectime.labels.csv_files import normalize_column
from detectime.labels.span_rows import choose_class_column
from detectime.labels.table_files import LabelTable
from detectime.labels.tables import TableError, format_names
from detectime.sources.contract import Source
from detectime.sources.listing import Listing, list_source
from detectime.sources.videos import VideoSource
from detectime.storage import urls

TABLES = ("frames", "spans")
"""Types that are tables: a csv, a Parquet file or a DataFrame."""

_ANNOTATED = ("coco", "cvat", "voc", "yolo")
_NOT_A_TABLE = (".json", ".xml", ".yaml", ".yml", ".zip")


class LabelReader(NamedTuple):
    """How labels are read whose frames are known only once the source is listed."""

    read: Callable[[Config, LabelTable, Source, Listing], pd.DataFrame]
    hash_labels: Callable[[Config, LabelTable], str | None]
    """None: the frames themselves are the labels."""
    list_classes: Callable[[Config, LabelTable, Source], list[str]]
    settings: tuple[str, ...]
    """The keys of `data` that, with the labels and the source, decide the rows."""
    list_files: Callable[[LabelTable, Source], Listing] = lambda labels, source: list_source(source)


def choose_reader(labels_type: str) -> LabelReader | None:
    """Return the reader of a type; None for ``frames``, which needs no listing.

    Examples
    --------
    >>> choose_reader("spans").settings
    ('every', 'span_zero')
    """
    return None if labels_type == "frames" else _READERS[labels_type]


def find_labels_type(config: Config, labels: LabelTable, source: Source) -> str:
    """Return `data.labels_type`, or what the labels are.

    - a folder: HaGRID's annotations, or those of another format;
    - a ``.json``, ``.xml``, ``.yaml`` or ``.zip`` file: annotations;
    - a table with the column `file` and without `frame_path`: spans of videos;
    - any other table: frames.

    Raises
    ------
    TableError
        If the labels cannot be read, or are nothing of these.
    ConfigError
        If `labels_type` does not go with the labels.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.config import load_config
    >>> from detectime.sources import open_source
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> find_labels_type(load_config(), str(paths.SAMPLE / "train.csv"), source)
    'frames'
    """
    given = config.data.labels_type
    if isinstance(labels, pd.DataFrame):
        if given not in (None, *TABLES):
            raise ConfigError(
                f"data.labels_type = {given!r}: the labels are a DataFrame; accepted: {', '.join(TABLES)}"
            )
    elif given is None:
        found = _recognise_annotations(config, os.fspath(labels), source)
        if found is not None:
            return found
    if given is not None:
        return given
    names = table_files.read_columns(labels)
    spellings = {normalize_column(name) for name in names}
    if spans.has_span_columns(names) or (isinstance(source, VideoSource) and "frame_path" not in spellings):
        return "spans"
    return "frames"


def list_table_classes(config: Config, labels: LabelTable, source: Source) -> list[str]:
    """Return the names of classes in a table of frames or spans, each once.

    Examples
    --------
    >>> from detectime import paths
    >>> from detectime.config import load_config
    >>> from detectime.sources import open_source
    >>> source = open_source(str(paths.SAMPLE / "TRAIN_DATA"))
    >>> list_table_classes(load_config(), pd.DataFrame({"class_name": ["ok", "stop", "ok"]}), source)
    ['ok', 'stop']
    """
    column = choose_class_column(table_files.read_columns(labels))
    rows, _ = table_files.read_table(labels, (column,))
    return [str(name) for name in rows[column].unique() if name.strip()]


def _recognise_annotations(config: Config, labels: str, source: Source) -> str | None:
    """Return the format of annotations; None if the labels are a table."""
    is_folder = not urls.is_remote(labels) and os.path.isdir(labels)
    if is_folder or labels.lower().endswith(_NOT_A_TABLE):
        if not urls.is_remote(labels) and not os.path.exists(labels):
            raise TableError(f"{labels}: no such file; set `labels` to the labels")
        found = annotated.recognise(labels)
        if found is not None:
            return found
    if labels == config.data.images and webdataset.is_webdataset(list_source(source)):
        return "webdataset"
    if not is_folder and not labels.lower().endswith(_NOT_A_TABLE):
        return None
    if is_folder and hagrid.has_class_files(labels, config.data.hagrid_classes, config.labels):
        return "hagrid"  # its reader says what is wrong with them
    tables = sorted(name for name in os.listdir(labels) if name.endswith((".csv", ".parquet"))) if is_folder else []
    if tables:
        one = f"set `labels` to {tables[0]}" if len(tables) == 1 else "join them into one, and set `labels` to it"
        raise TableError(f"{labels}: this is a folder with {format_names(tables)}; {one}")
    raise TableError(
        f"{labels}: no annotations were recognised here; accepted: a csv, the folder of HaGRID's annotations, those of "
        f"{', '.join(_ANNOTATED)}; if images lie in one folder per class, set `labels_type: folders` and no `labels`"
    )


def _list_hagrid_classes(config: Config, labels: LabelTable, source: Source) -> list[str]:
    if config.is_explicit("data.hagrid_classes"):
        return list(config.data.hagrid_classes.values())
    return hagrid.list_classes(_get_path(labels))


def _get_path(labels: LabelTable) -> str:
    assert not isinstance(labels, pd.DataFrame)
    return os.fspath(labels)


def _make_annotated_reader(labels_type: str) -> LabelReader:
    return LabelReader(
        read=lambda config, labels, source, listing: annotated.read_annotated(
            _get_path(labels), labels_type, listing, config.labels, config.data.group_by
        ),
        hash_labels=lambda config, labels: annotated.hash_annotations(_get_path(labels), labels_type),
        list_classes=lambda config, labels, source: annotated.list_classes(_get_path(labels), labels_type),
        settings=("labels_type", "group_by"),
    )


_READERS = {
    "spans": LabelReader(
        read=lambda config, labels, source, listing: spans.read_spans(
            labels, source, listing, config.labels, config.data.every, config.data.span_zero
        ),
        hash_labels=lambda config, labels: table_files.hash_labels(labels),
        list_classes=list_table_classes,
        settings=("every", "span_zero"),
        list_files=spans.list_videos,
    ),
    "hagrid": LabelReader(
        read=lambda config, labels, source, listing: hagrid.read_annotations(
            _get_path(labels), listing, config.data.hagrid_classes, config.labels
        ),
        hash_labels=lambda config, labels: hagrid.hash_annotations(
            _get_path(labels), config.data.hagrid_classes, config.labels
        ),
        list_classes=_list_hagrid_classes,
        settings=("hagrid_classes",),
    ),
    "folders": LabelReader(
        read=lambda config, labels, source, listing: folders.read_folders(
            config.data.images,
            spans.take_steps(source, listing, config.data.every),
            config.labels,
            config.data.group_by,
        ),
        hash_labels=lambda config, labels: None,
        list_classes=lambda config, labels, source: folders.list_classes(list_source(source)),
        settings=("labels_type", "group_by", "every"),
    ),
    "webdataset": LabelReader(
        read=lambda config, labels, source, listing: webdataset.read_webdataset(
            source, listing, config.labels, config.data.group_by
        ),
        hash_labels=lambda config, labels: None,
        list_classes=lambda config, labels, source: webdataset.list_classes(source, list_source(source)),
        settings=("labels_type", "group_by"),
    ),
    **{labels_type: _make_annotated_reader(labels_type) for labels_type in _ANNOTATED},
}
