"""Paths of files in the parts that say who is in them, and the names of groups that a finder gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectime.boxes import Flags, Integers
from detectime.labels.layout import ENDING, LABEL_STUDIO, ROBOFLOW
from detectime.sources.names import fold_name

LEAST_SHARE = 0.5
"""Of the files, which must fit a kind of groups that is recognised."""

_LEAST_SHARED = 0.25  # of the files with a group that must share it with another: random names share none
_EXPORTED = r"-[0-9a-f]{10}$"  # names that exports of detectime have
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
        large_string: the folder of each file; empty at the top.
    stems
        large_string: the name of each without its ending, and without what Roboflow, Label Studio and exports of
        detectime add to names.
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
        self.folders: pa.Array = pc.replace_substring_regex(self.paths, r"(?s)/?[^/]*$", "")
        stems = pc.replace_substring_regex(self.paths, r"(?s)^.*/", "")
        for added in (f"(?s){ENDING}", rf"(?i){ROBOFLOW}[0-9a-f]{{8,}}$", _EXPORTED):
            stems = pc.replace_substring_regex(stems, added, "")
        self.is_random: Flags = pc.match_substring_regex(stems, _RANDOM).to_numpy(zero_copy_only=False)
        restored = pc.replace_substring_regex(stems, f"^{LABEL_STUDIO}", "")
        self.stems: pa.Array = pc.if_else(pa.array(self.is_random), stems, restored)

    def __len__(self) -> int:
        return len(self.paths)

    def name_own(self) -> pa.Array:
        """Return a name for each file that only copies of it share: its folder and stem."""
        folders = pc.replace_substring_regex(self.folders, r"(?s)(.)$", r"\1/")
        return pc.binary_join_element_wise(folders, self.stems, pa.scalar("", pa.large_string()))


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


def _as_texts(values: Sequence[str] | pa.Array) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(pa.large_string()) if isinstance(values, pa.Array) else pa.array(values, pa.large_string())
