"""The vocabulary of `labels: auto`: the classes of the labels, numbered in the order of their names."""

from __future__ import annotations

import dataclasses
from collections import Counter

from pydantic import ValidationError

from detectime.config import Config, list_faults
from detectime.errors import ConfigError
from detectime.labels.class_names import simplify_name
from detectime.labels.readers import choose_reader, find_labels_type, list_table_classes
from detectime.labels.table_files import LabelTable, describe_table
from detectime.labels.tables import TableError, format_names
from detectime.sources.contract import Source
from detectime.sources.names import fold_name


def number_labels(config: Config, source: Source, rows: LabelTable | None = None) -> Config:
    """Give the classes of the labels numbers, if the section `labels` is ``auto``.

    Numbers count up from 0 in the order of the names. A class that the run in the output folder has keeps its number
    (`detection.resume.resume_config` provides them); others get the numbers after the largest.

    Parameters
    ----------
    config
        As `resume_config` returned it.
    source
        Where frames come from.
    rows
        The labels, instead of `data.labels`: see `frame_table.read_labels`.

    Returns
    -------
    Config
        With all classes in `labels`; unchanged if the file gives them numbers.

    Raises
    ------
    TableError
        If the labels cannot be read, or have no class.
    ConfigError
        If a class that the configuration names is not among them.

    Examples
    --------
    >>> import pandas as pd
    >>> from detectime import paths
    >>> from detectime.config import load_config
    >>> from detectime.sources import open_source
    >>> config = dataclasses.replace(load_config(), labels={"stop": 0}, labels_are_auto=True)
    >>> rows = pd.DataFrame({"frame_path": "a.jpg", "class_name": ["stop", "like", "fist"]})
    >>> number_labels(config, open_source(str(paths.SAMPLE / "TRAIN_DATA")), rows).labels
    {'stop': 0, 'fist': 1, 'like': 2}
    """
    if not config.labels_are_auto:
        return config
    labels = config.data.labels if rows is None else rows
    labels_type = find_labels_type(config, labels, source)
    reader = choose_reader(labels_type)
    found = (list_table_classes if reader is None else reader.list_classes)(config, labels, source)
    numbers = dict(config.labels)
    known = {fold_name(name) for name in numbers}
    for name in sorted({fold_name(name) for name in found} - known - {""}):
        numbers[name] = max(numbers.values(), default=-1) + 1
    counts = Counter(map(simplify_name, numbers))
    alike = sorted(name for name in numbers if counts[simplify_name(name)] > 1)
    if alike:
        names = format_names(alike)
        raise TableError(
            f"{describe_table(labels)}: {names} differ in case or punctuation alone; rename them, or give the classes "
            "numbers in `labels`"
        )
    if not numbers:
        raise TableError(f"{describe_table(labels)}: these labels have no class; accepted: at least one")
    data = config.data
    if labels_type == "hagrid" and not config.is_explicit("data.hagrid_classes"):  # under HaGRID's own names
        data = dataclasses.replace(data, hagrid_classes={name: name for name in found})
    try:
        return dataclasses.replace(config, data=data, labels=numbers, labels_are_auto=False)
    except ValidationError as error:
        faults = "; ".join(list_faults(error))
        raise ConfigError(f"{describe_table(labels)}: {faults}; or give the classes numbers in `labels`") from error
