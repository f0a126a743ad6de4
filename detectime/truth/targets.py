"""What a label of an annotation says: a hand that shows a class, any hand, a face, or something else."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from detectime.boxes import Flags
from detectime.config import NO_GESTURE, Config
from detectime.labels import hagrid_boxes
from detectime.labels.annotations import FACES, PEOPLE
from detectime.notes import Note, shorten_text
from detectime.truth.contract import FACE, HAND

OTHER = "other"
"""Kind of a box that is neither a hand nor a face."""

UNKNOWN = "unknown"
"""Kind of a box whose label does not tell whether it is a hand."""

_HANDS = frozenset(["hand", "hands"])  # as a word of a label, such as `left_hand`
_HAND_WORDS = _HANDS | {"left", "right", "a", "the", "human", "person", "visible", "other", "of", "0", "1", "2"}
_SHOWN_CHARACTERS = 40
_MOST_SHOWN = 5  # labels that a note lists


@dataclass(frozen=True)
class Meaning:
    """What a label says.

    Attributes
    ----------
    kind
        ``hand``, ``face``, `OTHER` or `UNKNOWN`.
    class_name
        The class that the hand shows; empty for another gesture than those of the vocabulary; None: not stated.
    """

    kind: str
    class_name: str | None = None


def read_labels(labels: Iterable[str], config: Config) -> dict[str, Meaning]:
    """Say what each label means for a run.

    A label is a class of the vocabulary, directly, through `data.hagrid_classes`, or but for case; or another gesture
    of HaGRID; or any hand, if it is empty or says no more than `hand`; or a face; or a person or part of one, which is
    no hand. A head is no face: its box is larger.

    Parameters
    ----------
    labels
        Of annotations.
    config
        Of the run.

    Examples
    --------
    >>> from detectime.config import load_config
    >>> found = read_labels(["peace", "left hand", "rock", "Face", "person"], load_config())
    >>> found["peace"].class_name, found["left hand"].class_name, found["rock"].class_name
    ('victory', None, '')
    >>> found["Face"].kind, found["person"].kind
    ('face', 'other')
    """
    classes = {theirs: ours for theirs, ours in config.data.hagrid_classes.items() if ours in config.labels}
    classes |= {name: name for name in config.labels}
    folded: dict[str, set[str]] = defaultdict(set)
    for name, class_name in classes.items():
        folded[name.casefold()].add(class_name)
    return {label: _read_label(label, classes, folded) for label in set(labels)}


def _read_label(label: str, classes: Mapping[str, str], folded: Mapping[str, set[str]]) -> Meaning:
    plain = label.strip().casefold()
    meant = {classes[label]} if label in classes else folded.get(plain, set())
    if meant:
        return Meaning(HAND, *meant) if len(meant) == 1 else Meaning(UNKNOWN)
    if plain == NO_GESTURE:
        return Meaning(HAND, NO_GESTURE)
    if plain in hagrid_boxes.CLASSES:
        return Meaning(HAND, "")
    if plain in FACES:
        return Meaning(FACE)
    words = [word for word in re.split(r"[\W_]+", plain) if word]
    if not words or (_HANDS.intersection(words) and _HAND_WORDS.issuperset(words)):
        return Meaning(HAND)
    rest = "_".join(word for word in words if word not in _HAND_WORDS)
    if _HANDS.intersection(words) and len(folded.get(rest, ())) == 1:
        return Meaning(HAND, *folded[rest])
    return Meaning(OTHER if plain in PEOPLE else UNKNOWN)


def list_kinds(labels: pd.Series, meanings: Mapping[str, Meaning]) -> NDArray[np.object_]:
    """Return the kind of each label, object, shape (labels,).

    Examples
    --------
    >>> list_kinds(pd.Series(["ok", "dog"]), {"ok": Meaning("hand", "ok"), "dog": Meaning("unknown")}).tolist()
    ['hand', 'unknown']
    """
    return labels.map({label: meaning.kind for label, meaning in meanings.items()}).to_numpy(object)


def find_targets(
    labels: pd.Series, kinds: NDArray[np.object_], frame: pd.Series, classes: pd.Series, meanings: Mapping[str, Meaning]
) -> Flags:
    """Find the hands that show the class of their frame: those of its class, or else those of no stated class.

    Parameters
    ----------
    labels, kinds
        Of each box, shape (boxes,).
    frame
        The `frame_path` of each box.
    classes
        The class of the frame of each box.
    meanings
        What `read_labels` returned.

    Examples
    --------
    >>> labels, frame = pd.Series(["ok", "hand", "hand"]), pd.Series(["a.jpg", "a.jpg", "b.jpg"])
    >>> meanings = {"ok": Meaning("hand", "ok"), "hand": Meaning("hand")}
    >>> find_targets(labels, list_kinds(labels, meanings), frame, pd.Series(["ok"] * 3), meanings).tolist()
    [True, False, True]
    """
    shown = labels.map({label: meaning.class_name for label, meaning in meanings.items() if meaning.class_name})
    states_none = labels.map({label: meaning.class_name is None for label, meaning in meanings.items()}).to_numpy(bool)
    is_hand = kinds == HAND
    is_own = is_hand & (shown.to_numpy(object) == classes.to_numpy(object))
    has_own = pd.Series(is_own).groupby(frame.to_numpy()).transform("any").to_numpy(bool)
    found: Flags = is_own | (is_hand & states_none & ~has_own)
    return found


def note_labels(labels: pd.Series, kinds: NDArray[np.object_]) -> list[Note]:
    """Note labels whose boxes are not used, with their counts.

    Examples
    --------
    >>> print(*note_labels(pd.Series(["dog", "dog", "ok"]), np.array(["unknown", "unknown", "hand"], object)))
    2 annotated boxes are labelled neither as a hand, a face nor a class, and are not used: 'dog' (2)
    """
    counts = labels[np.isin(kinds, (OTHER, UNKNOWN))].value_counts()
    if not len(counts):
        return []
    shown = [
        f"{shorten_text(str(label), _SHOWN_CHARACTERS)} ({count})" for label, count in counts.head(_MOST_SHOWN).items()
    ]
    total, more = int(counts.sum()), len(counts) - len(shown)
    listed = ", ".join([*shown, *([f"and {more} more"] if more else [])])
    be = "annotated box is" if total == 1 else "annotated boxes are"
    text = f"{be} labelled neither as a hand, a face nor a class, and {be.split()[-1]} not used: {listed}"
    return [Note("other_label", total, text)]
