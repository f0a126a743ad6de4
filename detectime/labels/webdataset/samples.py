"""The samples of a WebDataset: files, or members of tar files, that share their name up to its first dot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detectime.labels.layout import decode_names, find_no_pictures, note_no_pictures
from detectime.notes import Note, note_found
from detectime.sources.file_kinds import IMAGE_SUFFIXES
from detectime.sources.listing import Listing

CLASS_ENDINGS = ("cls", "class", "cls.txt", "class.txt")
"""What the name of a member that holds the class ends in, in lower case."""

FACTS_ENDINGS = ("json", "jsn")
"""What the name of a member that holds several facts ends in, in lower case."""

_PICTURE_ENDINGS = tuple(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
_ENDINGS = {"picture": _PICTURE_ENDINGS, "class": CLASS_ENDINGS, "facts": FACTS_ENDINGS}
_PLAIN_WORDS = ("image", "img", "picture", "rgb", "frame", "input")
"""Names of the picture among several, as in ``0001.image.jpg`` and ``0001.mask.png``."""
_NAME = r"(?s)^(?P<key>(?:.*/)?[^./]+)\.(?P<field>[^/]*)$"
_SHARE = 0.5  # of the pictures that must have a .json, where there is no .cls


class Samples(NamedTuple):
    """The samples that have a picture, ordered by its path."""

    paths: pa.Array
    """large_string: the path of the picture."""
    names: pa.Array
    """large_string: the path that its members share."""
    pictures: NDArray[np.int32]
    """Its position in the listing."""
    classes: NDArray[np.int32]
    """The position of the member with the class; -1: there is none."""
    facts: NDArray[np.int32]
    """The position of the member with further facts; -1: there is none."""
    named: NDArray[np.int32]
    """Positions of all files that belong to samples, also to those without a picture."""
    notes: list[Note]
    captions: int
    """How many samples have a ``.txt``."""


def find_samples(listing: Listing) -> Samples:
    """Find the samples in a listing by the names alone.

    The name of a sample is the path up to the first dot of the file name. Where pictures have dots in their names, and
    each a member of its own with the class (``anna.0001.jpg``, ``anna.0001.cls``), it is the path up to the last dot.
    Case in endings does not count. Of several pictures in a sample, ``NAME.jpg`` goes before ``NAME.mask.png``.

    Examples
    --------
    >>> names = [b"s/0001.jpg", b"s/0001.CLS", b"s/0001.mask.png", b"s/0002.cls", b"s/classes.json"]
    >>> found = find_samples(Listing(pa.array(names), pa.nulls(5, pa.string())))
    >>> found.paths.to_pylist(), found.classes.tolist(), found.facts.tolist()
    (['s/0001.jpg'], [1], [-1])
    >>> for note in found.notes:
    ...     print(note)
    1 sample has several pictures, of which one is taken (the first: 's/0001.jpg, not s/0001.mask.png')
    1 sample has no picture, as the endings of its files say, and is left out (the first: 's/0002.cls')
    """
    members, notes = _list_members(listing)
    picture, several = _choose_members(members, "picture")
    chosen = {kind: _choose_members(members, kind) for kind in ("class", "facts")}
    picture = picture.sort_values("path")
    has_picture = members["key"].isin(picture["key"])
    counts = members["key"].value_counts()
    is_alone = members["key"].map(counts) == 1
    labels_only = ~has_picture & ((members["kind"] == "class") | ((members["kind"] == "facts") & ~is_alone))
    without = members[labels_only].sort_values("path").drop_duplicates("key")["path"].tolist()
    text = "sample has no picture, as the endings of its files say, and is left out"
    texts = "samples have no picture, as the endings of their files say, and are left out"
    notes = [
        *_note_several(picture, several, "pictures"),
        *_note_several(*chosen["class"], "files with a class"),
        *_note_several(*chosen["facts"], "JSON files"),
        *note_found("no_picture", without, text, texts),
        *notes,
    ]
    is_named = has_picture | members["key"].isin(members["key"][labels_only])
    is_caption = has_picture & (members["field"] == "txt")
    return Samples(
        pa.array(picture["path"], pa.large_string()),
        pa.array(picture["name"], pa.large_string()),
        picture["position"].to_numpy(np.int32),
        _match_members(picture, chosen["class"][0]),
        _match_members(picture, chosen["facts"][0]),
        members["position"][is_named].to_numpy(np.int32),
        notes,
        int(is_caption.sum()),
    )


def is_webdataset(listing: Listing) -> bool:
    """Whether a listing looks like a WebDataset: a picture has a ``.cls``, or half of the pictures have a ``.json``.

    Examples
    --------
    >>> is_webdataset(Listing(pa.array([b"a.jpg", b"a.cls"]), pa.nulls(2, pa.string())))
    True
    >>> is_webdataset(Listing(pa.array([b"a.jpg", b"classes.json"]), pa.nulls(2, pa.string())))
    False
    """
    found = find_samples(listing)
    has_facts = int(np.count_nonzero(found.facts >= 0))
    return bool((found.classes >= 0).any()) or (has_facts > 0 and has_facts >= _SHARE * len(found.facts))


def _list_members(listing: Listing) -> tuple[pd.DataFrame, list[Note]]:
    """Return all files with a name and an ending: `path`, `position`, `name`, `key`, `field`, `kind` and `rank`."""
    paths = decode_names(listing.names)
    parts = pc.extract_regex(paths, _NAME)
    others = find_no_pictures(listing.names, paths)
    positions = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False) & ~others["hidden"]).astype(np.int32)
    taken = pa.array(positions)
    paths, parts = paths.take(taken), parts.take(taken)
    keys, fields = pc.struct_field(parts, "key"), pc.utf8_lower(pc.struct_field(parts, "field"))
    # Of fields there are few, unless names have dots.
    fields = fields.dictionary_encode()
    kinds, ranks = zip(*map(_rank_field, fields.dictionary.to_pylist()), strict=True) if len(fields) else ((), ())
    codes = fields.indices.to_numpy()
    kind = np.array(kinds, object)[codes] if len(codes) else np.array([], object)
    rank = np.array(ranks, np.int64)[codes] if len(codes) else np.array([], np.int64)
    keys, notes = _split_dotted(paths, keys, kind, rank)
    members = pd.DataFrame(
        {
            "path": paths.to_pandas(),
            "position": positions,
            "name": keys.cast(pa.large_string()).to_pandas(),
            "key": keys.dictionary_encode().indices.to_numpy(),
            "field": fields.cast(pa.large_string()).to_pandas(),
            "kind": kind,
            "rank": rank,
        }
    )
    return members, [*notes, *note_no_pictures(listing.names, {"not_utf8": others["not_utf8"]})]


def _rank_field(field: str) -> tuple[str, int]:
    """Return what a member is by its name after the key, and its place among several of the kind: the least goes first.

    Ranks from `_DOTTED` on are of names with further dots.
    """
    for kind, endings in _ENDINGS.items():
        for place, ending in enumerate(endings):
            if field == ending:
                return kind, place
            if field.endswith(f".{ending}"):
                word = field.removesuffix(f".{ending}")
                return kind, _DOTTED * (1 if word in _PLAIN_WORDS else 2) + place
    return "", 0


_DOTTED = 1000


def _split_dotted(
    paths: pa.Array, keys: pa.Array, kind: NDArray[np.object_], rank: NDArray[np.int64]
) -> tuple[pa.Array, list[Note]]:
    """Return the keys, up to the last dot for names with dots that have members of their own."""
    is_dotted = rank >= _DOTTED
    is_picture, is_label = kind == "picture", (kind == "class") | (kind == "facts")
    if not (is_dotted & is_picture).any() or not (is_dotted & is_label).any():
        return keys, []
    stems = pc.replace_substring_regex(paths, r"(?s)\.[^./]*$", "")
    owned = stems.filter(pa.array(is_dotted & is_label))
    has_own = is_dotted & is_picture & pc.is_in(stems, value_set=owned).to_numpy(zero_copy_only=False)
    plain = keys.filter(pa.array(~is_dotted & is_picture))
    is_meant = pc.and_not(pc.is_in(keys, value_set=keys.filter(pa.array(has_own))), pc.is_in(keys, value_set=plain))
    is_meant = pc.and_(is_meant, pa.array(is_dotted))
    meant = is_meant.to_numpy(zero_copy_only=False) & is_picture
    names = sorted(paths.filter(pa.array(meant)).to_pylist())
    why = "dots in the name, and a class for each name up to the last: that is the name of the sample"
    notes = note_found("dotted", names, f"picture has {why}", f"pictures have {why}")
    return pc.if_else(is_meant, stems, keys), notes


def _choose_members(members: pd.DataFrame, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the first member of a kind in each sample, and the others."""
    found = members[members["kind"] == kind].sort_values(["key", "rank", "path"])
    is_further = found["key"].duplicated()
    return found[~is_further], found[is_further]


def _match_members(picture: pd.DataFrame, chosen: pd.DataFrame) -> NDArray[np.int32]:
    positions = chosen.set_index("key")["position"].reindex(picture["key"])
    return positions.fillna(-1).to_numpy(np.int32)


def _note_several(chosen: pd.DataFrame, others: pd.DataFrame, what: str) -> list[Note]:
    if not len(others):
        return []
    first = others.sort_values("path").drop_duplicates("key")
    taken = chosen.set_index("key")["path"].reindex(first["key"]).tolist()
    pairs = [f"{path}, not {other}" for path, other in zip(taken, first["path"].tolist(), strict=True)]
    one, many = (
        f"sample has several {what}, of which one is taken",
        f"samples have several {what}, of which one is taken",
    )
    return note_found("several", pairs, one, many)
