"""The report of a run as a file: what it says, what it escapes, how large it is, and what it makes of odd runs."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import FROZEN
from finished_runs import copy_run, make_run
from hypothesis import given
from hypothesis import strategies as st
from imagined_runs import make_imagined_run, make_rows

from detectime import outcomes, pairing, runs, splits
from detectime.cli.main import main
from detectime.decision_files import DecisionLog
from detectime.decisions import Decision, format_time
from detectime.detection.manifest import RunError
from detectime.notes import Note
from detectime.report import figures, pages, sections
from detectime.report.material import collect_material
from detectime.report.report import BUDGET, SMALL_BUDGET, make_report, read_mark, write_report
from detectime.runs import FinishedRun
from detectime.schema import Outcome
from detectime.truth import Truth, read_reviewed, read_truth

VOID = ("meta", "img", "wbr", "br", "rect", "line", "circle")
SILENT = ("script", "style", "title")
HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "{{ 7 * 7 }}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
    "bell\x07 and \x1b[31mred",
    "x" * 500,
    "\N{ARABIC LETTER BEH}\N{ARABIC LETTER TEH}",
)


class PageReader(HTMLParser):
    """Reads a page: its tags with their attributes, its ids, its headings and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.parts: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(page.decode())
        self.close()
        self.text = " ".join("".join(self.parts).split())  # no-break spaces too

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "dt", "dd", "li", "p"):
            self.parts.append(" ")
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if not set(self.open) & set(SILENT):
            self.parts.append(data)
        if self.open and self.headings and {"h1", "h2", "h3"} & set(self.open):
            tag, text = self.headings[-1]
            self.headings[-1] = (tag, text + data)

    def list_attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name))]

    def list_titles(self, tag: str) -> list[str]:
        return [" ".join(text.split()) for found, text in self.headings if found == tag]


@pytest.fixture(scope="module")
def sample_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return copy_run(sample_run, tmp_path_factory.mktemp("sample") / "out")


@pytest.fixture(scope="module")
def sample_truth(sample_run: FinishedRun) -> Truth:
    truth = read_truth(sample_run)
    assert truth is not None
    return truth


@pytest.fixture(scope="module")
def sample_page(sample_run: FinishedRun, sample_truth: Truth) -> bytes:
    return make_report(sample_run, sample_truth)


@pytest.fixture
def own_run(sample_run: FinishedRun, tmp_path: Path) -> FinishedRun:
    """Copy the run on the sample, to be changed."""
    return runs.open_run(shutil.copytree(str(sample_run.store), tmp_path / "out"))


def test_the_page_says_what_the_set_is(sample_page: bytes) -> None:
    page = PageReader(sample_page)
    assert page.list_titles("h1") == ["100 samples of 6 classes"]
    assert page.list_titles("h2") == [
        "Verdict",
        "Outcomes per class",
        "Samples",
        "Frames without a sample",
        "Distributions",
        "Worth checking",
        "Against annotated hands",
        "Notes",
        "How it was made",
        "Settings",
    ]
    for text in ("of 108 frames", "from sample/TRAIN_DATA", "detectime 0.", "12 frames of no_gesture", "no_hand"):
        assert text in page.text


def test_the_page_is_well_formed(sample_page: bytes) -> None:
    page = PageReader(sample_page)
    assert page.unbalanced == []
    assert page.open == []
    ids = page.list_attributes("id")
    assert len(ids) == len(set(ids))
    assert set(page.list_attributes("aria-labelledby")) <= set(ids)
    assert {target[1:] for target in page.list_attributes("href")} <= set(ids)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_nothing_comes_from_outside(sample_page: bytes) -> None:
    page = PageReader(sample_page)
    assert all(source.startswith("data:image/") for source in page.list_attributes("src"))
    assert all(target.startswith("#") for target in page.list_attributes("href"))
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "form", "base"}
    assert not re.search(rb"url\((?!\"data:)", sample_page)
    assert b"default-src 'none'" in sample_page
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]


def test_the_page_of_the_sample_is_small(sample_page: bytes) -> None:
    assert len(sample_page) <= SMALL_BUDGET
    assert sample_page.count(b"data:image/webp") > 60


def test_each_heading_of_the_contents_is_a_section(sample_page: bytes) -> None:
    page = PageReader(sample_page)
    links = [target[1:] for target in page.list_attributes("href")]
    for anchor in ("classes", "samples", "without", "distributions", "doubt", "evaluation", "provenance", "settings"):
        assert anchor in links


def test_what_made_the_set_is_told(sample_run: FinishedRun, sample_page: bytes) -> None:
    text = PageReader(sample_page).text
    made = sample_run.manifest
    for value in (made["pairing"]["hands_sha256"], made["frames"]["labels_sha256"], "detectime run \\ --images"):
        assert value in text
    for detector in made["detectors"].values():
        assert all(sha256 in text for sha256 in detector["weights"].values())
    assert read_mark(sample_page) == made["pairing"]["hands_sha256"]


def test_settings_that_differ_are_in_view_and_in_the_command(own_run: FinishedRun) -> None:
    outcomes.pair_run(own_run, dataclasses.replace(own_run.pairing, fallback="wider", enlarged_classes=("ok", "like")))
    text = PageReader(make_report(own_run)).text
    assert "These differ from the defaults. pairing.enlarged_classes [ok, like] pairing.fallback wider" in text
    assert "--enlarged-classes ok,like \\ --fallback wider" in text


def test_faces_are_blurred_if_asked(sample_run: FinishedRun, sample_page: bytes) -> None:
    blurred = make_report(sample_run, blur_faces=True)
    assert len(blurred) <= SMALL_BUDGET
    assert not _list_pictures(blurred) & _list_pictures(sample_page)


def _list_pictures(page: bytes) -> set[str]:
    """List the pictures of whole frames; crops may show no face."""
    return {
        attributes["src"] or ""
        for tag, attributes in PageReader(page).tags
        if tag == "img" and "height" in attributes and "card-crop" not in (attributes.get("class") or "")
    }


def test_without_truth_nothing_is_evaluated(sample_run: FinishedRun) -> None:
    page = PageReader(make_report(sample_run))
    assert "Against annotated hands" not in page.list_titles("h2")


def test_names_from_data_are_text(tmp_path: Path) -> None:
    rows = make_rows(140, HOSTILE)
    rows["video_name"] = rows["class_name"] + " " + rows["video_name"]
    page = make_report(make_imagined_run(tmp_path, rows))
    found = PageReader(page)
    assert found.unbalanced == []
    assert [tag for tag, _ in found.tags if tag == "script"] == ["script"]
    assert not [attributes for _, attributes in found.tags if any(key.startswith("on") for key in attributes)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.decode())
    for name in HOSTILE:
        assert pages.show_controls(name)[:80] in found.text


def test_a_long_name_is_shortened_and_may_be_broken(tmp_path: Path) -> None:
    page = make_report(make_imagined_run(tmp_path, make_rows(20, ("x" * 500, "ok")))).decode()
    shown = page.partition('id="settings"')[0]  # where values are written in full
    assert "x" * 200 not in re.sub('alt="[^"]*"|aria-label="[^"]*"', "", shown)
    assert f'<bdi class="path">{"x" * 80}…' in page


@pytest.mark.large
def test_ten_thousand_classes_are_bounded(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(10_000)]
    run = make_imagined_run(tmp_path, make_rows(20_000, names, per_group=2))
    page = make_report(run)
    assert len(page) < 400_000
    text = PageReader(page).text
    assert "and 9,960 more 19,920 19,920 100" in text
    assert "20,000 samples of 10,000 classes" in text


def test_largest_and_worst_classes_are_listed() -> None:
    frames = np.arange(1, 101)
    table = pd.DataFrame({"class_name": frames.astype(str), "frames": frames, "samples": frames})
    table.loc[[3, 4], "samples"] = [0, 2]
    shown, others = sections.choose_classes(table, 6)
    assert shown["class_name"].tolist() == ["4", "5", "97", "98", "99", "100"]
    assert len(others) == 94


def test_no_sample_at_all(tmp_path: Path) -> None:
    page = PageReader(make_report(make_imagined_run(tmp_path, make_rows(30, ("ok", "like")), lost=True)))
    assert page.list_titles("h1") == ["0 samples of 2 classes"]
    assert "Frames without a sample" in page.list_titles("h2")
    assert not {"Samples", "Distributions"} & set(page.list_titles("h2"))


def test_no_frame_at_all(tmp_path: Path) -> None:
    rows = make_rows(20, ("no_gesture",))
    page = PageReader(make_report(make_imagined_run(tmp_path, rows, also=["ok"])))
    assert [title for title in page.list_titles("h2") if title != "Notes"] == ["Verdict", "How it was made", "Settings"]
    assert "0 samples" in page.list_titles("h1")[0]


@pytest.mark.parametrize("count", [1, 10])
def test_one_frame_and_one_class(count: int, tmp_path: Path) -> None:
    page = PageReader(make_report(make_imagined_run(tmp_path, make_rows(count))))
    assert page.unbalanced == []
    assert page.list_titles("h1")[0].startswith(f"{count} sample")
    assert page.list_titles("h1")[0].endswith("of 1 class")


@pytest.mark.parametrize("name", ["default", "cascade", "averaged"])
def test_runs_of_0_2_have_a_report(name: str, tmp_path: Path) -> None:
    output = shutil.copytree(FROZEN / name, tmp_path / name)
    before = {file: file.read_bytes() for file in output.rglob("*") if file.is_file()}
    page = PageReader(make_report(runs.open_run(output)))
    assert "samples of 6 classes" in page.list_titles("h1")[0]
    assert page.unbalanced == []
    assert {file: file.read_bytes() for file in output.rglob("*") if file.is_file()} == before


def test_a_run_that_is_not_finished_says_so(own_run: FinishedRun) -> None:
    output = Path(str(own_run.store))
    made = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(made | {"finished": None}))
    place = write_report(output)
    page = PageReader(Path(place).read_bytes())
    assert page.list_titles("h1") == ["Not finished"]
    assert "108 of at most 120 frames are done" in page.text
    assert "Run the same command again" in page.text
    assert read_mark(Path(place).read_bytes()) is None


def test_a_run_of_0_2_that_was_interrupted_says_so(tmp_path: Path) -> None:
    output = shutil.copytree(FROZEN / "interrupted", tmp_path / "out")
    page = PageReader(Path(write_report(output, tmp_path / "page.html")).read_bytes())
    assert page.list_titles("h1") == ["Not finished"]
    assert re.search(r"\d+ (of at most \d+ )?frames? (is|are) done", page.text)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(RunError, match="there is no run in this folder"):
        write_report(tmp_path)


def test_the_report_lies_in_the_folder_of_the_run(own_run: FinishedRun) -> None:
    place = write_report(f"{own_run.store}/")
    assert place == f"{own_run.store}/report.html"
    assert "Against annotated hands" in PageReader(Path(place).read_bytes()).list_titles("h2")


def decide(run: FinishedRun, number: int, reviewer: str, action: str) -> None:
    """Make a decision about a sample as a person would."""
    row = run.outcomes[run.outcomes["outcome"] == "paired"].iloc[number]
    x1, y1, x2, y2 = pairing.get_boxes(row, "hand").tolist()
    decision = Decision(
        format_time(),
        reviewer,
        action,
        row["frame_path"],
        row["content"],
        (x1, y1, x2, y2),
        row["class_name"],  # type: ignore[arg-type]
    )
    DecisionLog(run.store, reviewer).append(decision)


def test_decisions_newer_than_the_pairing_are_shown_and_noted(own_run: FinishedRun) -> None:
    decide(own_run, 0, "anna", "reject")
    decide(own_run, 0, "ben", "keep")
    decide(own_run, 1, "ben", "reject")
    page = make_report(own_run)
    found = PageReader(page)
    assert found.list_titles("h1") == ["99 samples of 6 classes"]
    assert "hands.json is older than the decisions" in found.text
    assert "detectime pair" in found.text
    assert read_mark(page) is None
    assert "Decisions" in found.list_titles("h2")
    assert "Contradictions between people" in found.text
    outcomes.pair_run(own_run)
    again = make_report(own_run)
    assert "hands.json is older" not in PageReader(again).text
    assert read_mark(again) == own_run.manifest["pairing"]["hands_sha256"]


def test_an_edited_hands_json_is_noted(own_run: FinishedRun) -> None:
    path = Path(str(own_run.store)) / "hands.json"
    path.write_text(path.read_text().replace('"label": 1', '"label": 2'))
    assert "hands.json was edited after it was written" in PageReader(make_report(own_run)).text
    path.unlink()
    assert "hands.json is gone" in PageReader(make_report(own_run)).text


def test_a_split_is_shown(own_run: FinishedRun) -> None:
    splits.split_run(own_run, {"train": 0.5, "test": 0.5})
    text = PageReader(make_report(own_run)).text
    assert "Samples and groups of each class in each part" in text
    assert "in 1 group" in text
    (Path(str(own_run.store)) / "split.csv").write_text("video_name,split\nstop_01,train\n")
    assert "Split" in PageReader(make_report(own_run)).list_titles("h2")


def test_frames_that_could_not_be_used_are_listed_by_reason(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.jpg").write_bytes(b"no picture")
    rows = [{"video_name": "v", "frame_id": k, "class_name": "ok", "frame_path": f"{k}.jpg"} for k in range(3)]
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    run = make_run(tmp_path / "out", images=str(images), labels=str(tmp_path / "labels.csv"))
    text = PageReader(make_report(run)).text
    assert "Frames that could not be used" in text
    assert "missing" in text
    assert "unreadable" in text


def test_each_outcome_has_a_colour_that_the_page_knows(sample_page: bytes) -> None:
    for outcome in Outcome:
        assert f"--outcome-{outcome.value}: {outcome.colour};".encode() in sample_page


@pytest.mark.large
def test_many_frames_take_seconds(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(34)]
    run = make_imagined_run(tmp_path, make_rows(175_000, names, per_group=70))
    begin = time.process_time()
    page = make_report(run)
    assert time.process_time() - begin < 20
    assert len(page) <= BUDGET
    assert len(PageReader(page).tags) < 15_000


# -- what pages and figures are made of


@given(st.text())
def test_any_name_can_be_shown(name: str) -> None:
    shown = str(pages.show_name(name))
    assert shown.encode()
    reader = PageReader(shown.encode())
    assert {tag for tag, _ in reader.tags} <= {"bdi", "wbr"}
    assert reader.unbalanced == []


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    reader = PageReader(str(pages.show_text(text)).encode())
    assert {tag for tag, _ in reader.tags} <= {"code", "wbr"}


@given(st.floats(0, 1), st.integers(0, 2))
def test_shares_are_rounded_honestly(share: float, digits: int) -> None:
    text = pages.format_share(share, digits)
    assert text.startswith("0") is (share == 0) or text.startswith("0.")
    assert text.startswith("100") is (share == 1)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=200))
def test_histograms_of_whole_numbers_count_every_value(values: list[int]) -> None:
    chart = figures.make_histogram(values, "samples", whole=True)
    assert chart is not None
    assert sum(_read_count(column.text) for column in chart.bins) == len(values)
    assert all(float(tick.label.replace(",", "")).is_integer() for tick in (*chart.y_ticks, *chart.x_ticks))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.booleans())
def test_histograms_count_every_value(values: list[float], is_limited: bool) -> None:
    chart = figures.make_histogram([*values, np.nan], "size", limits=(0, 3) if is_limited else None)
    assert chart is not None
    assert sum(_read_count(column.text) for column in chart.bins) == len(values)
    assert max(column.height for column in chart.bins) == 100
    for column in chart.bins:
        assert -0.01 <= column.left <= column.left + column.width <= 100.01
    assert all(-0.01 <= tick.at <= 100.01 for tick in chart.x_ticks)


def _read_count(text: str) -> int:
    found = re.search(r": ([\d,]+) sample", text)
    assert found is not None
    return int(found[1].replace(",", ""))


def test_nothing_is_no_histogram() -> None:
    assert figures.make_histogram([], "size") is None
    assert figures.make_histogram([np.nan], "size") is None
    assert figures.make_heatmap([], [], 1.0, "centre") is None
    assert figures.make_ranges(pd.Series([1.0, 2.0]), pd.Series(["a", "a"]), "size") is None


@given(st.lists(st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)), min_size=1, max_size=100), st.floats(0.1, 10))
def test_maps_count_every_point(points: list[tuple[float, float]], aspect: float) -> None:
    x, y = zip(*points, strict=True)
    chart = figures.make_heatmap(x, y, aspect, "centre")
    assert chart is not None
    assert sum(cell.count for cell in chart.cells) == len(points)
    assert max(cell.shade for cell in chart.cells) == 5
    assert all(0 <= cell.x < 100 and 0 <= cell.y < 100 for cell in chart.cells)


def test_segments_of_a_bar_follow_each_other() -> None:
    parts = figures.stack_segments({"paired": 3, "fallback": 0, "no_hand": 1}, 4)
    assert [(part.name, part.start, part.length) for part in parts] == [("paired", 0, 75), ("no_hand", 75, 25)]


def test_notes_are_bounded_and_told_once() -> None:
    section = sections.describe_notes([Note("kind", number, "things") for number in range(1, 100)] * 2)
    assert section is not None
    assert len(section.values["notes"]) + section.values["more"] == 99
    assert sections.describe_notes([]) is None


def test_what_people_decided_judges_the_samples_before_that(own_run: FinishedRun) -> None:
    for number, action in enumerate(["reject", "keep", "keep", "keep"]):
        decide(own_run, number, "anna", action)
    outcomes.pair_run(own_run)
    truth = read_reviewed(own_run)
    assert truth is not None
    material = collect_material(own_run, truth)
    assert material.evaluation is not None
    assert material.evaluation.frames["is_correct"].tolist() == [False, True, True, True]
    told = "Of 4 samples that people looked at, 1 was wrong before"
    assert told in PageReader(make_report(own_run, truth)).text
    assert main(["report", str(own_run.store), "--truth", "reviewed"]) == 0
    written = (Path(str(own_run.store)) / "report.html").read_bytes()
    assert told in PageReader(written).text


def test_reviewed_without_decisions_is_an_error(own_run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(own_run.store), "--truth", "reviewed"]) == 1
    assert "nobody decided on a hand of this run yet" in capsys.readouterr().err


def test_a_check_of_labels_says_what_it_could_not_see(own_run: FinishedRun) -> None:
    labels = pd.DataFrame({"frame_path": ["a"], "margin": [np.nan], "contradicts": [False]})
    labels.attrs["notes"] = [Note("unchecked", 100, "frames were not checked")]
    assert "100 frames were not checked" in PageReader(make_report(own_run, labels=labels)).text


def test_a_page_overwrites_only_pages(own_run: FinishedRun, capsys: pytest.CaptureFixture[str]) -> None:
    hands = Path(str(own_run.store)) / "hands.json"
    before = hands.read_bytes()
    assert main(["report", str(own_run.store), "--to", str(hands)]) == 1
    assert "hands.json: this file is no page, and is not overwritten" in capsys.readouterr().err
    assert hands.read_bytes() == before
    hands.with_name("old.html").write_text("\n<!DOCTYPE HTML>an old page")
    assert main(["report", str(own_run.store), "--to", str(hands.with_name("old.html"))]) == 0


def test_a_run_that_is_at_work_is_not_begun_again(own_run: FinishedRun) -> None:
    path = Path(str(own_run.store)) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": None}))
    command = [sys.executable, "-c", HOLD, str(own_run.store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        page = PageReader(Path(write_report(str(own_run.store))).read_bytes())
        assert page.list_titles("h1") == ["Still at work"]
        assert "Run the same command again" not in page.text
        holder.communicate("")
    page = PageReader(Path(write_report(str(own_run.store))).read_bytes())
    assert page.list_titles("h1") == ["Not finished"]


HOLD = """
import sys
from detectime.storage.store import open_store
with open_store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_contradicted_labels_are_shown_with_what_was_seen(own_run: FinishedRun) -> None:
    path = own_run.outcomes.query("outcome == 'paired'")["frame_path"].iloc[0]
    labels = pd.DataFrame({"frame_path": [path], "seen": ["fist"], "margin": [-9.0], "contradicts": [True]})
    page = PageReader(make_report(own_run, labels=labels))
    assert "Labels contradicted" in page.list_titles("h3")[0] or "Labels contradicted" in page.text
    assert "labelled stop, looks like fist" in page.text


def test_without_any_picture_reasons_are_listed(own_run: FinishedRun) -> None:
    object.__setattr__(own_run.config.data, "images", "/nowhere")
    page = PageReader(make_report(own_run))
    assert "None of" in page.text
    assert "can be read" in page.text
    assert "There is a face, but no hand was found." in page.text
    assert {"Frames without a sample", "Worth checking"} <= set(page.list_titles("h2"))
