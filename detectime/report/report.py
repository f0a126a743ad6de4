"""The report of a run: one HTML page that says what the set is, how good it is, and what to do.

`make_report` collects the facts, the doubt and, if there is truth, the evaluation; chooses the frames to show; and
renders one section for each thing that there is to say.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import pandas as pd

import detectime
from detectime import runs
from detectime.config import NO_GESTURE
from detectime.report import measured, provenance, sections
from detectime.report.cards import NOT_BLURRED, Card, Gallery, GalleryRequest, make_galleries, make_strip
from detectime.report.gallery_requests import request_galleries
from detectime.report.material import Material, collect_material
from detectime.report.pages import format_share, locate_place, render_page, write_page
from detectime.report.sections import Section
from detectime.report.unfinished import find_unfinished, render_unfinished
from detectime.report.verdict import judge_set
from detectime.runs import FinishedRun
from detectime.schema import SAMPLES
from detectime.truth import Truth, read_truth

FILE_NAME = "report.html"
"""The report in the folder of a run, unless another place is given."""
BUDGET = 4_900_000
"""Most bytes of a report."""
SMALL_BUDGET = 950_000
"""Most bytes of the report of a run of at most `_SMALL` frames."""

_SMALL = 3_000
_STRIP = 0.06  # share of the pictures' bytes that the first screen takes
_TEXT_PER_CARD = 1_500  # bytes
_MARK = re.compile(rb'<meta name="detectime-hands-sha256" content="([0-9a-f]{64})">')
_LEVELS = ((0.6, "serious"), (0.25, "notable"), (0.0, "minor"))  # of the severity of a finding, from which on


def make_report(
    run: FinishedRun, truth: Truth | None = None, *, blur_faces: bool = False, labels: pd.DataFrame | None = None
) -> bytes:
    """Make the report of a run.

    Nothing is written. If frames were detected or decisions made since the last pairing, the frames are paired in
    memory, and the page says that the files in the folder are older.

    Parameters
    ----------
    run
        What `runs.open_run` returned. Some of its frames are read again for pictures.
    truth
        Annotated hands of its frames, which the samples are compared with.
    blur_faces
        Make the faces that were found unrecognisable.
    labels
        What `label_check.check_labels` returned.

    Returns
    -------
    bytes
        HTML, at most `BUDGET` bytes whatever the run.

    Raises
    ------
    RunError, TableVersionError, StoreError
        If a table of the run cannot be read.

    Examples
    --------
    >>> from detectime.runs import open_run
    >>> page = make_report(open_run("out"))  # doctest: +SKIP
    """
    material = collect_material(run, truth, labels)
    budget = SMALL_BUDGET if len(material.samples) <= _SMALL else BUDGET
    room = budget - len(_render(material, [], []))
    requests = request_galleries(material)
    while True:
        strip, galleries = _make_pictures(material, requests, room, blur_faces)
        page = _render(material, strip, galleries)
        if len(page) <= budget or room <= 0:
            return page
        room -= len(page) - budget + _TEXT_PER_CARD


def write_report(
    output: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    truth: Truth | str | os.PathLike[str] | None = None,
    truth_format: str | None = None,
    truth_pixels: str | None = None,
    blur_faces: bool | None = None,
    labels: pd.DataFrame | None = None,
) -> str:
    """Write the report of a run; one that is not finished gets a page that says so.

    Parameters
    ----------
    output
        The `output` of the run: a folder or URL.
    path
        The file to write; None: ``report.html`` in the folder of the run.
    truth
        Annotated hands, or the file or folder that has them; None: those that came with the labels, if any.
    truth_format, truth_pixels
        See `truth.read_truth`.
    blur_faces
        See `make_report`; None: `display.blur_faces` of the run.
    labels
        See `make_report`.

    Returns
    -------
    str
        Where the report is.

    Raises
    ------
    RunError
        If there is no run, or a newer detectime made it.
    TruthError
        If the truth cannot be read, or is not that of these frames.
    TableVersionError, StoreError
        If a table of the run cannot be read, or the page cannot be written.

    Examples
    --------
    >>> write_report("out", truth="annotations.json")  # doctest: +SKIP
    'out/report.html'
    """
    location = os.fspath(output)
    place = f"{location.rstrip('/')}/{FILE_NAME}" if path is None else os.fspath(path)
    unfinished = find_unfinished(location)
    if unfinished is not None:
        write_page(render_unfinished(*unfinished), place)
        return place
    run = runs.open_run(location)
    if not isinstance(truth, Truth):
        truth = read_truth(run, truth, truth_format=truth_format, truth_pixels=truth_pixels)
    if blur_faces is None:
        blur_faces = run.config.display.blur_faces
    write_page(make_report(run, truth, blur_faces=blur_faces, labels=labels), place)
    return place


def read_mark(page: bytes) -> str | None:
    """Return the sha256 of the ``hands.json`` whose samples a report shows, None if it does not say.

    Examples
    --------
    >>> print(read_mark(b"<!doctype html>"))
    None
    """
    found = _MARK.search(page)
    return found[1].decode() if found else None


def _make_pictures(
    material: Material, requests: Sequence[GalleryRequest], room: int, blur_faces: bool
) -> tuple[list[Card], list[Gallery]]:
    """Make the pictures of the page, with their texts in about `room` bytes."""
    cards = sum(min(len(request.rows), request.shown + request.more) for request in requests)
    budget = max(room // 4, room - _TEXT_PER_CARD * cards)
    strip_budget = int(_STRIP * budget)
    samples = material.samples
    paired = samples[samples["outcome"].isin(SAMPLES).to_numpy()]
    strip = make_strip(material.run, paired, budget=strip_budget, blur_faces=blur_faces)
    return strip, make_galleries(material.run, requests, budget=budget - strip_budget, blur_faces=blur_faces)


def _render(material: Material, strip: Sequence[Card], galleries: Sequence[Gallery]) -> bytes:
    facts = material.facts
    unseen, seen = _count_unseen(galleries)
    visible = galleries if seen or not unseen else ()  # cards without any picture would say one thing many times
    shown = _make_sections(material, {gallery.key: gallery for gallery in visible})
    anchors = {section.anchor for section in shown}
    is_reviewed = material.truth is not None and material.truth.before_decisions
    findings = judge_set(
        facts,
        None if is_reviewed else material.evaluation,
        material.doubt,
        material.labels,
        unseen,
        seen,
        reviewed=material.evaluation if is_reviewed else None,
    )
    record = material.run.manifest["pairing"] or {}
    return render_page(
        "report.html",
        f"{_name_set(material.run)}: {facts.samples:,} samples",
        name=_name_set(material.run),
        facts=facts,
        source=_shorten_place(facts.images),
        version=detectime.__version__,
        mark=record.get("hands_sha256") if not facts.has_stale_files else None,
        figures=_list_headline_figures(material),
        findings=[(found, _name_level(found.severity), found.anchor in anchors) for found in findings],
        strip=strip,
        sections=shown,
    )


def _count_unseen(galleries: Sequence[Gallery]) -> tuple[Counter[str], int]:
    """Count the frames that could not be read, by reason, and those that could."""
    cards = {card.frame_path: card for gallery in galleries for card in (*gallery.cards, *gallery.more)}
    faults = Counter(card.fault for card in cards.values() if card.fault not in (None, NOT_BLURRED))
    return faults, len(cards) - faults.total()


def _make_sections(material: Material, galleries: dict[str, Gallery]) -> list[Section]:
    """Make the sections that have something to show, in their order."""
    run, facts, samples = material.run, material.facts, material.samples

    def choose(prefix: str) -> list[Gallery]:
        return [gallery for key, gallery in galleries.items() if key.startswith(prefix)]

    makers: list[Callable[[], Section | None]] = [
        lambda: sections.describe_classes(facts),
        lambda: sections.describe_samples(choose("class-"), int((facts.classes["samples"] > 0).sum())),
        lambda: sections.describe_without(facts, choose("without-"), samples),
        lambda: sections.describe_distributions(samples, facts),
        lambda: measured.describe_doubt(material.doubt, galleries.get("most-doubtful"), galleries.get("contradicted")),
        lambda: measured.describe_evaluation(material.evaluation, [*choose("wrong"), *choose("missed")]),
        lambda: sections.describe_decisions(run, samples),
        lambda: sections.describe_split(run, samples),
        lambda: sections.describe_notes(facts.notes),
        lambda: provenance.describe_provenance(run),
        lambda: provenance.describe_settings(run),
    ]
    return [section for section in (make() for make in makers) if section is not None]


def _list_headline_figures(material: Material) -> list[tuple[str, str]]:
    """List the figures of the first screen: each a number, and what it is."""
    facts = material.facts
    if not facts.samples:
        return []
    found = [(format_share(facts.samples / facts.frames), f"of {facts.frames:,} frames")]
    gestures = facts.classes[facts.classes["class_name"] != NO_GESTURE]
    if len(gestures) > 1:
        found.append((f"{gestures['samples'].min():,}", "in the smallest class"))
    found.append((f"{facts.groups:,}", "group" if facts.groups == 1 else "groups"))
    evaluation = material.evaluation
    if evaluation is None or material.truth is None or material.truth.before_decisions:
        return found
    precision = measured.find_precision(evaluation.measures)
    if precision is not None:
        interval = f", {precision.interval} %" if precision.interval else ""
        what = "samples" if evaluation.compares_classes else "boxes"
        found.append((precision.text, f"of {what} right{interval}"))
    return found


def _name_level(severity: float) -> str:
    return next(name for least, name in _LEVELS if severity >= least)


def _name_set(run: FinishedRun) -> str:
    return PurePosixPath(locate_place(str(run.store))).name


def _shorten_place(place: str) -> str:
    """Return the last two parts of a path or URL."""
    return "/".join(PurePosixPath(place.rstrip("/")).parts[-2:])
