"""The tables of a run: columns, versions and outcomes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Self

import pyarrow as pa

from detectime.errors import DocumentedError

FRAMES_FILE = "frames.parquet"
DETECTIONS_FILE = "detections.parquet"
OUTCOMES_FILE = "outcomes.parquet"
"""Names of the tables in the folder of a run."""

MANIFEST_FILE = "run.json"
"""Name of the file that says how a run was made."""

EXPORT_FILE = "export.json"
"""Name of the file that says what an export holds, and whether it is finished."""

TRUTH = "true_hands"
"""Column of the frame table with annotated boxes: see `labels.hagrid.read_annotations`."""

TRUTH_SIZE = "true_size"
"""Column of the frame table with the size of the picture that was annotated, such as ``640x480``, if it is stated."""

LANDMARKS = 21
"""Number of landmarks of a hand, in MediaPipe's order: the wrist is the first."""

CROP_HASH_VERSION = 1
"""Version of the algorithm behind `crop_hash`: see `images.hash_crop`."""

CORNERS = ("x1", "y1", "x2", "y2")
"""Coordinates of a box: fields in the detections table, and suffixes of columns in the outcomes table."""

FRAME_COLUMNS = ("label", "on_disk", "stamp", "wanted", TRUTH, TRUTH_SIZE)
"""Columns that detectime adds to the frame table."""

DECISION_COLUMNS = ("decision", "decided_by", "decided_at")
"""Columns of the outcomes table that say what a person decided, who and when; null where nobody did."""

OUTCOME_COLUMNS = (
    *("outcome", "error", "content", "width", "height", "orientation", "faces", "hands"),
    *("overlap", "fallback", "found_by", "other_hand", "face_score", "hand_score"),
    *(f"{box}_{corner}" for box in ("face", "hand", "square", "bbox") for corner in CORNERS),
    *DECISION_COLUMNS,
)
"""Columns that pairing adds to those of the frame table: the outcomes table has both."""

RESERVED_COLUMNS = frozenset([*FRAME_COLUMNS, *OUTCOME_COLUMNS])
"""Columns that detectime adds. A column of the labels that has one of these names is renamed."""

REPLACED = b"detectime.replaced_sha256"
"""Metadata key in ``detections.parquet``: the sha256 of the file of 0.2 that it replaced."""

DETECTION_OUTCOMES = ("ok", "missing", "unreadable", "failed")
"""Outcomes of detection; pairing decides whether a frame with `ok` gives a sample."""


class TableVersionError(DocumentedError, RuntimeError):
    """A table that this version of detectime cannot read; the message gives the remedy."""


class DamagedTableError(TableVersionError):
    """A table that is damaged; the message gives the remedy."""


class Outcome(StrEnum):
    """Outcome of a row of the frame table: name, colour in figures, sentence, and whether it is a sample."""

    colour: str
    sentence: str
    is_sample: bool

    def __new__(cls, name: str, colour: str, sentence: str, is_sample: bool) -> Self:
        """Create a member whose value is its name in tables."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.colour, member.sentence, member.is_sample = colour, sentence, is_sample
        return member

    PAIRED = "paired", "#2a9d5c", "A hand overlaps the context square of a face.", True
    FALLBACK = "fallback", "#90be6d", "A hand was found by the chosen fallback.", True
    CORRECTED = "corrected", "#277da1", "A person chose or drew its box, or changed its class.", True
    REJECTED = "rejected", "#b5838d", "A person found that it has no right box.", False
    APART = "apart", "#f4a261", "There are hands, but none overlaps the context square of a face.", False
    NO_HAND = "no_hand", "#e9c46a", "There is a face, but no hand was found.", False
    NO_FACE = "no_face", "#8ab6d6", "No face was found.", False
    MISSING = "missing", "#6c757d", "The source does not have the frame.", False
    UNREADABLE = "unreadable", "#9b5de5", "The file cannot be decoded.", False
    FAILED = "failed", "#d62839", "Detection failed on the frame.", False
    LEFT_OUT = "left_out", "#dee2e6", "The frame is not wanted: its class, or past the limit.", False


SAMPLES = tuple(outcome.value for outcome in Outcome if outcome.is_sample)
"""Outcomes that give a sample."""


def check_outcomes(names: Iterable[str]) -> None:
    """Refuse outcomes that `Outcome` does not know: counts and figures would not add up without them.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> check_outcomes(["paired", "no_face"])
    """
    known = {outcome.value for outcome in Outcome}
    unknown = sorted({str(name) for name in names} - known)
    if unknown:
        raise ValueError(f"unknown outcomes: {', '.join(unknown)}; known are {', '.join(sorted(known))}")


_BOX = (*CORNERS, "score")

BOXES = pa.list_(
    pa.struct(
        [
            *(pa.field(name, pa.float32(), nullable=False) for name in _BOX),
            pa.field("detector", pa.string(), nullable=False),  # its name in the configuration
            pa.field("stage", pa.string(), nullable=False),  # `near` a face, in the `frame`, or there as `fallback`
        ]
    )
)
"""Boxes of a frame, in pixels of the upright frame, inside it."""

_DETECTIONS_1 = pa.schema(
    [
        pa.field("frame_path", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("faces", BOXES, nullable=False),
        pa.field("hands", BOXES, nullable=False),
    ]
)
"""The detections table of 0.2, which has no version in its metadata."""

_PROPOSALS = pa.list_(pa.struct([pa.field(name, pa.float32()) for name in _BOX]))
_TABLE, _VERSION = b"detectime.table", b"detectime.version"
_DETECTIONS_VERSION = 3

DETECTIONS = pa.schema(
    [
        pa.field("frame_path", pa.string(), nullable=False),  # unique
        pa.field("stamp", pa.string()),  # from the source's listing at detection: a different one triggers a check
        pa.field("content", pa.string()),  # size and CRC-32 of the encoded bytes: `images.describe_content`
        pa.field("outcome", pa.string(), nullable=False),  # one of `DETECTION_OUTCOMES`
        pa.field("error", pa.string()),  # why there are no boxes; null if `ok`
        pa.field("width", pa.int32()),  # of the frame in pixels; null unless it was decoded
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int8()),  # EXIF's 1 to 8, as stored; null where unknown
        pa.field("faces", BOXES, nullable=False),
        pa.field("hands", BOXES, nullable=False),
        # One element per hand; null if the detector does not provide it.
        # x, y, z of each. Not a list of fixed size: pyarrow before 26 cannot read one that has nulls.
        pa.field("landmarks", pa.list_(pa.list_(pa.float32())), nullable=False),
        pa.field("presence", pa.list_(pa.float32()), nullable=False),  # probability that it is a hand
        pa.field("handedness", pa.list_(pa.float32()), nullable=False),  # of a right hand, image not mirrored
        pa.field("proposal", _PROPOSALS, nullable=False),  # the box before refinement, and its score
        pa.field("crop_hash", pa.list_(pa.binary()), nullable=False),  # 32 bytes: `images.hash_crop` of the stored box
    ],
    metadata={
        _TABLE: b"detections",
        _VERSION: str(_DETECTIONS_VERSION).encode(),
        b"detectime.crop_hash": str(CROP_HASH_VERSION).encode(),
    },
)
"""One row per frame on which detection ran, whatever the detectors.

Landmarks are in pixels of the upright frame, z in the same unit and 0 at the wrist.
"""

_DETECTIONS_2 = DETECTIONS.set(
    DETECTIONS.get_field_index("landmarks"),
    pa.field("landmarks", pa.list_(pa.list_(pa.float32(), 3 * LANDMARKS)), nullable=False),
).with_metadata({**DETECTIONS.metadata, _VERSION: b"2"})
"""The detections table of 0.3 before its release."""

PAIRING_COLUMNS = ("frame_path", "outcome", "error", "content", "width", "height", "orientation", "faces", "hands")
"""The columns that pairing reads: a million rows of the others take most of a gigabyte."""

_PER_HAND = ("landmarks", "presence", "handedness", "proposal", "crop_hash")


def get_table_version(schema: pa.Schema, name: str) -> int | None:
    """Return the version of a detections table; None if it is not a detections table.

    Parameters
    ----------
    schema
        Of the file, with its metadata.
    name
        Of the file, for messages.

    Raises
    ------
    TableVersionError
        If a newer version of detectime made it.

    Examples
    --------
    >>> get_table_version(DETECTIONS, "detections.parquet")
    3
    """
    metadata = schema.metadata or {}
    if metadata.get(_TABLE) == b"detections":
        version = parse_version(metadata.get(_VERSION, b"0"))
        if version is None:
            return None
        if version > _DETECTIONS_VERSION:
            raise TableVersionError(
                f"{name}: made by a newer detectime (detections table version {version}, this one reads up to "
                f"{_DETECTIONS_VERSION}); install that version"
            )
        return version if schema.equals(_DETECTIONS_2 if version == 2 else DETECTIONS) else None
    return 1 if schema.equals(_DETECTIONS_1) else None


def parse_version(value: bytes) -> int | None:
    """Return the version in the metadata of a table; None if it is no whole number.

    Examples
    --------
    >>> parse_version(b"3"), parse_version(b"null")
    (3, None)
    """
    return int(value) if re.fullmatch(rb"\d{1,9}", value) else None


def upgrade_table(table: pa.Table) -> pa.Table:
    """Upgrade detections of any earlier version to the present columns, null where that version lacks them.

    Parameters
    ----------
    table
        With all columns of its version: see `get_table_version`.

    Returns
    -------
    Table
        In the schema `DETECTIONS`.

    Examples
    --------
    >>> upgrade_table(_DETECTIONS_1.empty_table()).schema.equals(DETECTIONS)
    True
    """
    if table.schema.equals(DETECTIONS):
        return table.replace_schema_metadata(DETECTIONS.metadata)
    columns = []
    for field in DETECTIONS:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        elif field.name in _PER_HAND:
            columns.append(_unknown_per_hand(table["hands"], field.type))
        else:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
    return pa.Table.from_arrays(columns, schema=DETECTIONS)


def _unknown_per_hand(hands: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return lists of nulls, as long as the lists of hands."""
    chunks = []
    for chunk in hands.chunks:
        offsets = chunk.offsets  # of a slice they do not begin at 0
        count = offsets[-1].as_py() - offsets[0].as_py() if len(chunk) else 0
        starts = pa.array(offsets.to_numpy() - (offsets[0].as_py() if len(offsets) else 0), pa.int32())
        chunks.append(pa.ListArray.from_arrays(starts, pa.nulls(count, kind.value_type), type=kind))
    return pa.chunked_array(chunks, kind)
