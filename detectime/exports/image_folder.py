"""ImageFolder: a folder of pictures for each class, which torchvision and `datasets` read."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from detectime.exports import huggingface
from detectime.exports.contract import ExportData, ExportHead, Format, join_path, split_folder
from detectime.exports.huggingface import find_split_fault
from detectime.storage.store import Store

METADATA_FILE = "metadata.parquet"
"""Name of the table in the folder of each part of the split, which `datasets` expects."""

EMPTY_MARK = ".keep"
"""Name of the file in the folder of a class without pictures."""

_MOST_BYTES = 255  # of a file's name
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³")]
)
"""Names of devices on Windows, with or without an ending."""


def name_picture(row: Mapping[str, Any]) -> str:
    """Return the path of a picture, without its ending: in the folder of its class.

    Examples
    --------
    >>> name_picture({"name": "anna-1", "class_name": "ok", "split": "val"})
    'val/ok/anna-1'
    """
    return join_path(_name_folder(row["split"]), row["class_name"], row["name"])


def find_fault(class_name: str) -> str | None:
    """Say why a folder cannot have the name of a class on every system; None if it can.

    Examples
    --------
    >>> find_fault("stop/go"), find_fault("thumbs up")
    ("a folder's name cannot hold '/'", None)
    """
    for character in class_name:
        if character in '/\\<>:"|?*' or unicodedata.category(character) in ("Cc", "Cs"):
            return f"a folder's name cannot hold {character!r}"
    if class_name != class_name.strip() or class_name.endswith(".") or not class_name:
        return "a folder's name cannot be empty, begin or end with a blank, or end with a dot"
    if class_name.startswith("."):
        return "a folder whose name begins with a dot is hidden"
    if class_name.partition(".")[0].rstrip().lower() in _RESERVED:
        return "on Windows, it is the name of a device"
    size = len(class_name.encode())
    return f"a folder's name has at most {_MOST_BYTES} bytes, and it has {size}" if size > _MOST_BYTES else None


def write_metadata(data: ExportData, store: Store) -> None:
    """Write everything but the pictures.

    - ``classes.json``: for each class, its `index` in the order of the vocabulary, its `label` there, and
      `folder_index`, the number that torchvision gives it, which counts folders in alphabetical order.
    - An empty ``.keep`` in the folder of each class without pictures. Without the folder, torchvision would silently
      number the classes that follow otherwise than in another part of the split. With it, it counts right with
      ``allow_empty=True``, and refuses the folder without.
    - ``metadata.parquet`` in each part of the split that has pictures: boxes and facts for `datasets`, see
      `huggingface.list_features`. There, `label` is `index`.

    Raises
    ------
    StoreError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from detectime.storage.store import open_store
    >>> nothing = pd.DataFrame({"split": [], "class_name": []}), pd.DataFrame({"image": []})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = open_store(folder)
    ...     write_metadata(ExportData(*nothing, ("ok", "like"), {"ok": 4, "like": 5}, pictures="crops"), store)
    ...     store.names("train/ok"), json.loads(store.get("classes.json"))[0]
    (['train/ok/.keep'], {'class_name': 'ok', 'index': 0, 'label': 4, 'folder_index': 1})
    """
    store.put("classes.json", json.dumps(_list_classes(data), indent=4).encode())
    for split, part in data.iterate_splits():
        for name in sorted(set(data.classes) - set(part.images["class_name"])):
            store.put(join_path(_name_folder(split), name, EMPTY_MARK), b"")
        if len(part.images):
            _write_table(_name_folder(split), part, store)


def _name_folder(split: str) -> str:
    """Return the folder of a part of the split; there is always one, since torchvision takes any folder for a class."""
    return split_folder(split, huggingface.NO_SPLIT_NAME)


def _list_classes(data: ExportData) -> list[dict[str, Any]]:
    folders = sorted(data.classes)
    return [
        {"class_name": name, "index": index, "label": data.numbers[name], "folder_index": folders.index(name)}
        for index, name in enumerate(data.classes)
    ]


def _write_table(folder: str, part: ExportData, store: Store) -> None:
    head = ExportHead(part.classes, part.numbers, part.pictures)
    columns = huggingface.make_columns(part.images, part.objects, head)
    columns["file_name"] = pa.array(part.images["file"].str.removeprefix(f"{folder}/"), pa.string())
    file_name = {"dtype": "string", "_type": "Value"}
    huggingface.write_table(store, f"{folder}/{METADATA_FILE}", columns, head, file_name=file_name)


FORMAT = Format(
    name="imagefolder",
    title="ImageFolder: a folder of crops for each class, for torchvision and `datasets`.",
    box="bbox",
    images="crops",
    accepted_images=("crops", "frames"),
    write=write_metadata,
    name_picture=name_picture,
    find_fault=find_fault,
    find_data_fault=find_split_fault,
)
