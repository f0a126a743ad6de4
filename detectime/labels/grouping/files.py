"""Paths of files in the parts that say who is in them, and the names of groups that a finder gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Flags, Integers
from detectime.labels.class_names import simplify_name
from detectime.labels.layout import ENDING, LABEL_STUDIO, ROBOFLOW, drop_hagrid_prefix, is_variant
from detectime.sources.names import fold_name

LEAST_SHARE = 0.5
"""Of the files, which must fit a kind of groups that is recognised."""

_LEAST_SHARED = 0.25  # of the files with a group that must share it with another: random names share none
_EXPORTED = r"-[0-9a-f]{10}$"  # names that exports of detectime have
_AUGMENTED = (
    r"(?i)(?:[_. -]+(?:[hv]?flip(?:ped|lr|ud)?|mirror(?:ed)?|(?:rot(?:ate|ated|ation)?|aug(?:mented)?)[_-]?[0-9]*|"
    r"crop(?:ped)?|resized?|blur(?:red|ry)?|bright(?:ness|er)?|dark(?:er)?|nois[ey]|gr[ae]y(?:scale)?|scaled?|"
    r"shift(?:ed)?|orig(?:inal)?|edited))+$"
)  # what augmentation adds to the name of a picture
_COPY = r"(?i) *(?:\([0-9]+\)|[_ -]+(?:copy|kopie)(?: *\(?[0-9]+\)?)?)$"  # what systems add to that of a copy
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_RANDOM = rf"(?i)^(?:[0-9a-f]{{16,}}|(?:[0-9a-z_-]*){_UUID}(?:[0-9a-z_-]*))$"


class Files:
    """Files of which it is asked who is in them.

    Parameters
    ----------
    paths
        Relative, each once.
    class_names
        The class of each.

    Attributes
    ----------
    paths, classes
        large_string.
    folders
        large_string: the folder of each file; empty at the top. Those that differ by what `layout.is_variant` finds
        alone are one, without it: ``ok`` for ``ok/original`` and ``ok/augmented``.
    stems
        large_string: the name of each without its ending, and without what Roboflow, Label Studio, augmentation,
        copying and exports of detectime add to names.
    is_random
        bool: whether a stem is a UUID or a hash, so that it says nothing.

    Examples
    --------
    >>> files = Files(["ok/anna_1_jpg.rf.aaaaaaaaaaaaaaaaaaaaaaaa.jpg"], ["ok"])
    >>> files.folders.to_pylist(), files.stems.to_pylist(), files.is_random.tolist()
    (['ok'], ['anna_1'], [False])
    """

    def __init__(self, paths: Sequence[str] | pa.Array, class_names: Sequence[str] | pa.Array) -> None:
        self.paths = _as_texts(paths)
        self.classes = _as_texts(class_names)
        self.folders: pa.Array = _unite_variants(
            pc.replace_substring_regex(self.paths, r"(?s)/?[^/]*$", ""), self.classes
        )
        stems = pc.replace_substring_regex(self.paths, r"(?s)^.*/", "")
        for added in (f"(?s){ENDING}", rf"(?i){ROBOFLOW}[0-9a-f]{{8,}}$", _EXPORTED, _AUGMENTED):
            stems = pc.replace_substring_regex(stems, added, "")
        stems = pc.replace_substring_regex(stems, r"^(IMG_)E([0-9]{4})$", r"\1\2")  # what an iPhone edited
        self.is_random: Flags = pc.match_substring_regex(stems, _RANDOM).to_numpy(zero_copy_only=False)
        restored = pc.replace_substring_regex(stems, f"^{LABEL_STUDIO}", "")
        self.stems: pa.Array = pc.if_else(pa.array(self.is_random), stems, restored)
        originals = pc.replace_substring_regex(self.stems, _COPY, "")
        if originals != self.stems:
            is_copy = pc.is_in(_join(self.folders, originals), value_set=self.name_own())
            self.stems = pc.if_else(is_copy, originals, self.stems)

    def __len__(self) -> int:
        return len(self.paths)

    def name_own(self) -> pa.Array:
        """Return a name for each file that only copies of it share: its folder and stem."""
        return _join(self.folders, self.stems)


class Keys(NamedTuple):
    """What a finder says of each file."""

    names: pa.Array
    """large_string: of its group; null where it does not fit, so that it is its own."""
    frame_ids: pa.Array | None = None
    """int64: its number; null where there is none. None: the last number in each stem."""


def fit_files(names: pa.Array, is_asked: bool, *, shared: bool = False) -> bool:
    """Whether enough files have a group: one, if the kind of groups is asked for, and half of them otherwise.

    Parameters
    ----------
    names
        Of the groups; null where a file has none.
    is_asked
        Whether the user asked for this kind.
    shared
        Whether a quarter of these must share their group with another, unless they are asked for.

    Examples
    --------
    >>> fit_files(pa.array(["anna", "anna", None]), False, shared=True), fit_files(pa.array(["a", None, None]), False)
    (True, False)
    """
    count = len(names) - names.null_count
    if is_asked or not shared:
        return count > 0 and (is_asked or bool(count >= LEAST_SHARE * len(names)))
    counts = names.drop_null().to_pandas().map(simplify_group).value_counts()
    is_shared = counts[counts > 1].sum() >= _LEAST_SHARED * count
    return bool(count > 0 and count >= LEAST_SHARE * len(names) and is_shared)


def simplify_group(name: str) -> str:
    """Return what the names of a group have in common: they differ in case, Unicode form and blanks at most.

    Examples
    --------
    >>> simplify_group("Anna ") == simplify_group("anna")
    True
    """
    return fold_name(name).casefold()


def find_unique(table: pa.Table) -> tuple[Integers, pa.Table]:
    """Return for each row the position of its values among the unique ones, and these.

    Examples
    --------
    >>> codes, unique = find_unique(pa.table({"name": ["b", "a", "b"]}))
    >>> unique["name"].take(pa.array(codes)).to_pylist()
    ['b', 'a', 'b']
    """
    codes = np.zeros(table.num_rows, np.int64)
    for column in table.column_names:
        indices = table[column].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        codes = codes * (indices.max(initial=0) + 1) + indices
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return inverse.astype(np.int64), table.take(pa.array(first))


def is_class(folder: str, simple_class: str) -> bool:
    """Whether a folder is that of a class, of which `class_names.simplify_name` gave the name.

    Examples
    --------
    >>> is_class("train_val_ok", "ok"), is_class("anna", "ok")
    (True, False)
    """
    return simple_class in (simplify_name(folder), simplify_name(drop_hagrid_prefix(folder)))


def _unite_variants(folders: pa.Array, classes: pa.Array) -> pa.Array:
    """Leave out the folders of views and copies where others lie beside them."""
    codes, unique = find_unique(pa.table({"folder": folders, "class": classes}))
    names = unique["folder"].to_pylist()
    bare = list(map(_drop_variants, names, map(simplify_name, unique["class"].to_pylist())))
    counts = Counter(short for _, short in set(zip(names, bare, strict=True)))
    united = [short if counts[short] > 1 else name for name, short in zip(names, bare, strict=True)]
    return folders if united == names else pa.array(united, pa.large_string()).take(pa.array(codes))


def _drop_variants(folder: str, simple_class: str) -> str:
    parts = folder.split("/")
    return "/".join(part for part in parts if not is_variant(part) or is_class(part, simple_class))


def _join(folders: pa.Array, stems: pa.Array) -> pa.Array:
    folders = pc.replace_substring_regex(folders, r"(?s)(.)$", r"\1/")
    return pc.binary_join_element_wise(folders, stems, pa.scalar("", pa.large_string()))


def _as_texts(values: Sequence[str] | pa.Array) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(pa.large_string()) if isinstance(values, pa.Array) else pa.array(values, pa.large_string())
