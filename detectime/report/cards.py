"""Frames as cards for a page: a thumbnail, the boxes over it, its crop and what is known of it; galleries of cards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pandas as pd

from detectime.report.card_boxes import BOX_KINDS, DetectedBoxes, Row, describe_outcome, get_box
from detectime.report.card_boxes import CardBox as CardBox  # as others import it from here
from detectime.report.card_sizes import CROP_ONLY, LEAST_SCALE, PictureSizes, limit_counts, share_budget
from detectime.report.thumbnail_worker import Cut, ThumbnailTask
from detectime.report.thumbnails import Thumbnails, make_thumbnails
from detectime.report.varied_frames import choose_frames
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES, Outcome

NOT_BLURRED = "no face was found in it that could be blurred"
"""Why a frame is not shown where faces are to be unrecognisable."""

_SPARE = 1.5  # crops that are read for a strip, in case some cannot be
_MOST_NAME = 160  # characters of a path in a description
_DEFAULT_SIZE = 640, 480  # pixels of a frame of unknown size


@dataclass(frozen=True)
class Card:
    """A frame as a page shows it.

    Attributes
    ----------
    frame_path, title
        The frame, and its class.
    lines
        What is known of it, one sentence or list each.
    alt
        A description of the picture for those who do not see it.
    width, height
        Size of the frame in pixels, in which `boxes` are.
    picture, crop
        Data URIs of the frame and of its crop; None if there is none.
    fault
        Why there is no picture; None if there is one, or none is wanted.
    boxes
        In the order in which they are drawn.
    """

    frame_path: str
    title: str
    lines: tuple[str, ...]
    alt: str
    width: int
    height: int
    picture: str | None
    fault: str | None
    boxes: tuple[CardBox, ...]
    crop: str | None


@dataclass(frozen=True)
class GalleryRequest:
    """What a gallery is to show.

    Attributes
    ----------
    key
        Its anchor in the page: letters, digits and hyphens.
    title, sentence
        Its heading, and what it shows.
    rows
        Rows of the outcomes table of which it shows a few.
    lines, boxes
        Further lines and boxes, by `frame_path`.
    varied
        Whether to choose frames that differ; otherwise the first ones are shown, in order.
    shown, more
        The number of cards in view, and behind "show more".
    """

    key: str
    title: str
    sentence: str
    rows: pd.DataFrame
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    boxes: Mapping[str, Sequence[CardBox]] = field(default_factory=dict)
    varied: bool = True
    shown: int = 4
    more: int = 12


@dataclass(frozen=True)
class Gallery:
    """Cards of one request.

    Attributes
    ----------
    key, title, sentence
        As requested.
    total
        The number of frames that it is about.
    cards, more
        Cards in view, and behind "show more".
    left_out
        The number of frames without a card.
    """

    key: str
    title: str
    sentence: str
    total: int
    cards: tuple[Card, ...]
    more: tuple[Card, ...]
    left_out: int


@dataclass(frozen=True)
class _Draft:
    """A card without its pictures; `frame` and `crop` are those that it is to have."""

    row: Row
    boxes: tuple[CardBox, ...]
    lines: tuple[str, ...]
    frame: Cut | None
    crop: Cut | None


def make_galleries(
    run: FinishedRun, requests: Sequence[GalleryRequest], *, budget: int, blur_faces: bool = False
) -> list[Gallery]:
    """Choose frames and make their cards. Every frame is read once.

    Parameters
    ----------
    run
        What `runs.open_run` returned.
    requests
        The galleries, the most important first: if the budget is too small for all, the first ones get cards.
    budget
        Characters of all data URIs together, at most. Cards in view come before any that is not.
    blur_faces
        Make the faces that were found unrecognisable.

    Returns
    -------
    list of Gallery
        One per request, in order. A frame that cannot be read has a card that says why.

    Raises
    ------
    RunError
        If the detections cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> run = open_run("output")  # doctest: +SKIP
    >>> request = GalleryRequest("all", "All classes", "What was found.", run.outcomes)  # doctest: +SKIP
    >>> (gallery,) = make_galleries(run, [request], budget=100_000)  # doctest: +SKIP
    """
    totals = [len(request.rows) for request in requests]
    shares = share_budget(totals, [each.shown for each in requests], [each.more for each in requests], budget)
    counts = (shares.shown + shares.more).tolist()
    chosen = choose_frames(run, [each.rows for each in requests], counts, [each.varied for each in requests])
    rows = _list_rows(chosen)
    detected = _read_boxes(run, rows)
    drafts = [
        [_draft_card(detected, request, row, shares.in_view) for row in found[:count]]
        + [_draft_card(detected, request, row, shares.behind) for row in found[count:]]
        for request, found, count in zip(requests, rows, shares.shown.tolist(), strict=True)
    ]
    made = _make_pictures(run, detected, [draft for found in drafts for draft in found], blur_faces)
    return [
        _make_gallery(request, [_finish_card(draft, made) for draft in found], count)
        for request, found, count in zip(requests, drafts, shares.shown.tolist(), strict=True)
    ]


def make_strip(
    run: FinishedRun, samples: pd.DataFrame, *, most: int = 12, budget: int, blur_faces: bool = False
) -> list[Card]:
    """Make cards that show only crops, of as many classes and groups as possible.

    Parameters
    ----------
    run, budget, blur_faces
        As for `make_galleries`.
    samples
        Rows of the outcomes table; those without a sample are not shown.
    most
        The number of cards, at most. Crops that cannot be read are left out.

    Raises
    ------
    RunError
        If the detections cannot be read.

    Examples
    --------
    >>> strip = make_strip(run, run.outcomes, budget=40_000)  # doctest: +SKIP
    """
    most = min(most, budget // CROP_ONLY.scale(LEAST_SCALE).cost)
    if most < 1:
        return []
    tried = int(_SPARE * most)
    classes = _split_classes(samples[samples["outcome"].isin(SAMPLES).to_numpy()], tried)
    if not classes:
        return []
    counts = limit_counts(np.array([len(rows) for rows in classes]), tried).tolist()
    rows = _list_rows(choose_frames(run, classes, counts, [True] * len(classes)))
    sizes = CROP_ONLY.scale(min(1.0, budget / (most * CROP_ONLY.cost)))
    drafts = [_Draft(row, (), (), None, _cut_crop(row, sizes)) for row in _take_turns(rows)]
    made = _make_pictures(run, _read_boxes(run, rows), drafts, blur_faces)
    cards = [_finish_card(draft, made) for draft in drafts]
    return [card for card in cards if card.crop is not None][:most]


def _split_classes(rows: pd.DataFrame, most: int) -> list[pd.DataFrame]:
    """Return the rows of each class, or of the largest ones, in the order of the labels."""
    sizes = rows["class_name"].value_counts(sort=False).sort_values(ascending=False, kind="stable")
    large = rows[rows["class_name"].isin(sizes.index[:most]).to_numpy()]
    return [found for _, found in large.groupby(["label", "class_name"], sort=True)]


def list_kinds(galleries: Iterable[Gallery]) -> dict[str, str]:
    """Return the kinds of boxes that galleries show, and their names: what a legend has to explain.

    Examples
    --------
    >>> list_kinds([])
    {}
    """
    cards = [card for gallery in galleries for card in (*gallery.cards, *gallery.more)]
    kinds = {box.kind for card in cards for box in card.boxes}
    return {kind: name for kind, name in BOX_KINDS.items() if kind in kinds}


def _list_rows(tables: Sequence[pd.DataFrame]) -> list[list[Row]]:
    """Return the rows of each table as dictionaries. They are converted at once: thousands of tables take seconds."""
    filled = [table for table in tables if len(table)]
    rows: Iterator[Row] = iter(pd.concat(filled).to_dict("records") if filled else [])  # type: ignore[arg-type]
    return [list(islice(rows, len(table))) for table in tables]


def _take_turns(lists: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the first row of each list, then the second of each, and so on."""
    longest = max(map(len, lists))
    return [rows[number] for number in range(longest) for rows in lists if number < len(rows)]


def _read_boxes(run: FinishedRun, rows: Iterable[Iterable[Row]]) -> DetectedBoxes:
    return DetectedBoxes(run, list(dict.fromkeys(row["frame_path"] for found in rows for row in found)))


def _draft_card(detected: DetectedBoxes, request: GalleryRequest, row: Row, sizes: PictureSizes) -> _Draft:
    path = row["frame_path"]
    return _Draft(
        row,
        (*detected.list_boxes(row), *request.boxes.get(path, ())),
        (describe_outcome(row), *request.lines.get(path, ())),
        Cut(sizes.side, sizes.characters),
        _cut_crop(row, sizes),
    )


def _cut_crop(row: Row, sizes: PictureSizes) -> Cut | None:
    box = get_box(row, "bbox")
    return None if box is None else Cut(sizes.crop_side, sizes.crop_characters, box)


def _make_pictures(
    run: FinishedRun, detected: DetectedBoxes, drafts: Sequence[_Draft], blur_faces: bool
) -> dict[str, Thumbnails]:
    """Return the pictures of each frame, by `frame_path`; those that several cards show are made once."""
    known = {draft.row["frame_path"]: _find_fault(draft.row) for draft in drafts}
    if blur_faces:  # a face that was not found cannot be blurred
        for row in (draft.row for draft in drafts):
            if known[row["frame_path"]] is None and not detected.list_faces(row):
                known[row["frame_path"]] = NOT_BLURRED
    cuts: dict[str, dict[Cut, None]] = {path: {} for path, fault in known.items() if fault is None}
    rows: dict[str, Row] = {}
    for draft in drafts:
        path = draft.row["frame_path"]
        if path in cuts:
            rows[path] = draft.row
            cuts[path].update(dict.fromkeys(cut for cut in (draft.frame, draft.crop) if cut is not None))
    tasks = [
        ThumbnailTask(
            path,
            detected.get_content(row),
            _get_size(row),
            detected.list_faces(row) if blur_faces else (),
            tuple(cuts[path]),
        )
        for path, row in rows.items()
    ]
    faults = {path: Thumbnails(fault=fault) for path, fault in known.items() if fault is not None}
    return faults | make_thumbnails(run, tasks)


def _get_size(row: Row) -> tuple[int, int] | None:
    return None if pd.isna(row["width"]) else (int(row["width"]), int(row["height"]))


def _find_fault(row: Row) -> str | None:
    """Return why detection had no pixels of a frame; None if it had."""
    if row["outcome"] not in (Outcome.MISSING, Outcome.UNREADABLE):
        return None
    return str(row["error"]) if isinstance(row["error"], str) else f"the frame is {row['outcome']}"


def _finish_card(draft: _Draft, made: Mapping[str, Thumbnails]) -> Card:
    row = draft.row
    found = made[row["frame_path"]]
    width, height = _get_size(row) or found.size or _DEFAULT_SIZE
    return Card(
        frame_path=row["frame_path"],
        title=str(row["class_name"]),
        lines=draft.lines,
        alt=_describe_picture(row, draft.boxes),
        width=width,
        height=height,
        picture=None if draft.frame is None else found.pictures.get(draft.frame),
        fault=found.fault,
        boxes=draft.boxes,
        crop=None if draft.crop is None else found.pictures.get(draft.crop),
    )


def _describe_picture(row: Row, drawn: Sequence[CardBox]) -> str:
    path = row["frame_path"]
    shown = path if len(path) <= _MOST_NAME else f"…{path[-_MOST_NAME:]}"
    kinds = dict.fromkeys(BOX_KINDS[box.kind].partition(",")[0] for box in drawn)
    marked = f"; marked: {', '.join(kinds)}" if kinds else ""
    return f"{row['class_name']}, {row['outcome']}: {shown}{marked}"


def _make_gallery(request: GalleryRequest, cards: Sequence[Card], shown: int) -> Gallery:
    total = len(request.rows)
    in_view, more = tuple(cards[:shown]), tuple(cards[shown:])
    return Gallery(request.key, request.title, request.sentence, total, in_view, more, total - len(cards))
