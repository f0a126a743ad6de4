"""Reports and comparisons in Chrome as they are read: on phones and desks, in light and dark, with keys, on paper."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finished_runs
import numpy as np
import pandas as pd
import pytest
import yaml
from browser import DESK, PHONE, OpenPage, launch_chrome, open_page, show_each
from conftest import draw_pattern, encode_image
from page_checks import (
    find_axe_faults,
    find_dialog_faults,
    find_keyboard_faults,
    find_layout_faults,
    find_missing_on_first_screen,
    find_pale_colors,
    find_pale_texts,
    find_policy_holes,
    find_print_faults,
    find_size_faults,
    find_structure_faults,
    find_too_many_pages,
    find_wrong_width,
    open_all,
)
from skips import need_extra

from detectime.comparison import change_settings, compare_settings
from detectime.paths import SAMPLE
from detectime.report.comparison import make_comparison_page
from detectime.report.report import write_report
from detectime.runs import FinishedRun
from detectime.schema import Outcome

need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

SMALL = 1_000_000
"""Bytes of the page of a run of up to a few thousand frames."""
MOST_PAGES = 40
MOST_SHOWN = 20
"""Faults in a message."""
SCRIPT = "<script>alert(1)</script>"
CLASSES = 40
COLORS = [f"--{name}" for name in ("face", "square", "hand", "bbox", "other", "truth", "suggested", "accent", "edge")]
"""Of boxes and charts; those of outcomes have an edge, and numbers beside them."""
PAGES = ["sample", "hostile", "nothing", "contest", "webcam", "comparison", "unfinished"]
OF_RUNS = PAGES[:5]
ENLARGE = "figure button"


# -- runs and their pages


@pytest.fixture(scope="module")
def sample_run(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return finished_runs.copy_run(sample_run, tmp_path_factory.mktemp("sample") / "out")


@pytest.fixture(scope="module")
def sample(sample_run: FinishedRun) -> Path:
    """Write the report on the rendered sample, with its truth."""
    return write_page_of(sample_run)


@pytest.fixture(scope="module")
def hostile(sample_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a run whose names are markup or long, with many classes; on the detections of the sample."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(str(sample_run.store), folder / "out")
    names = [SCRIPT, '"><img src=x onerror=alert(1)>', "'; alert(1); //", "{{ 7 * 7 }}", "gesture" * 8 + "four"]
    names += [f"class number {number} that nobody needs" for number in range(len(names), CLASSES)]
    table = pd.read_csv(SAMPLE / "train.csv")
    table["class_name"] = np.resize(names, len(table))
    table.loc[::2, "video_name"] = SCRIPT
    table.loc[1::4, "video_name"] = "one_very_long_name_of_a_video_" * 4
    table.to_csv(folder / "labels.csv", index=False)
    vocabulary = {name: number for number, name in enumerate(names)}
    (folder / "config.yml").write_text(yaml.safe_dump({"config_version": "0.3", "labels": vocabulary}))
    (folder / "notebooks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # a project, whose config.yml has the vocabulary
        return write_page_of(finished_runs.make_run(folder / "out", labels=str(folder / "labels.csv")))


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a run without any sample."""
    folder = tmp_path_factory.mktemp("nothing")
    rows = [("v", number, "ok", f"v/{number}.png") for number in range(6)]
    (folder / "v").mkdir()
    for *_, name in rows[:5]:  # one is missing
        (folder / name).write_bytes(encode_image(draw_pattern()))
    table = pd.DataFrame(rows, columns=["video_name", "frame_id", "class_name", "frame_path"])
    table.to_csv(folder / "labels.csv", index=False)
    run = finished_runs.make_run(folder / "out", images=str(folder), labels=str(folder / "labels.csv"))
    return write_page_of(run)


@pytest.fixture(scope="module")
def contest(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page_of_shared(shared / "frames" / "contest", tmp_path_factory)


@pytest.fixture(scope="module")
def webcam(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page_of_shared(shared / "frames" / "webcam", tmp_path_factory)


@pytest.fixture(scope="module")
def comparison(sample_run: FinishedRun) -> Path:
    """Write the comparison of the sample's run with the same under another setting."""
    settings = change_settings(sample_run.pairing, {"crop_coefficient": 0.4, "enlarged_classes": ()})
    found = compare_settings(sample_run, settings)
    page = Path(str(sample_run.store)) / "comparison.html"
    page.write_bytes(make_comparison_page(sample_run, sample_run, found))
    return page


@pytest.fixture(scope="module")
def unfinished(sample_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a run that has no last shard yet."""
    output = tmp_path_factory.mktemp("unfinished") / "out"
    shutil.copytree(str(sample_run.store), output)
    manifest = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(manifest | {"finished": None}))
    return Path(write_report(output))


def write_page_of_shared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp(folder.name) / "out"
    places = {"images": str(folder / "TRAIN_DATA"), "labels": str(folder / "train.csv")}
    return write_page_of(finished_runs.make_run(output, **places))


def write_page_of(run: FinishedRun) -> Path:
    return Path(write_report(str(run.store)))


# -- the browser


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with launch_chrome() as chrome:
        yield chrome


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def phone(chrome: Any, page: Path) -> Iterator[OpenPage]:
    with open_page(chrome, page, 390) as opened:
        open_all(opened)
        yield opened


@pytest.fixture(scope="module")
def desk(chrome: Any, page: Path) -> Iterator[OpenPage]:
    with open_page(chrome, page, 1440) as opened:
        open_all(opened)
        yield opened


def assert_none(faults: list[str], view: str = "") -> None:
    """Show each fault on its line."""
    assert not faults, "\n".join([view, *faults[:MOST_SHOWN]])


def test_layout_on_phones(phone: OpenPage) -> None:
    for view in show_each(phone, PHONE):
        assert_none(find_layout_faults(phone) + find_wrong_width(phone), view)


def test_layout_on_desks(desk: OpenPage) -> None:
    for view in show_each(desk, DESK):
        assert_none(find_layout_faults(desk) + find_wrong_width(desk), view)


def test_contrast(phone: OpenPage) -> None:
    for view in show_each(phone, (390,)):
        assert_none(find_pale_texts(phone) + find_pale_colors(phone, COLORS), view)


def test_structure(phone: OpenPage) -> None:
    assert_none(find_structure_faults(phone) + find_axe_faults(phone))


def test_print(desk: OpenPage) -> None:
    for view in show_each(desk, (820,)):
        assert_none(find_print_faults(desk), view)
    assert_none(find_too_many_pages(desk, MOST_PAGES))


@pytest.mark.parametrize("width", [390, 1440])
def test_the_keyboard(chrome: Any, page: Path, width: int) -> None:
    with open_page(chrome, page, width) as opened:
        assert_none(find_keyboard_faults(opened))
        if opened.page.locator(ENLARGE).count():
            assert_none(find_dialog_faults(opened, ENLARGE))
        assert_none(opened.list_events())


def test_nothing_comes_from_outside(chrome: Any, page: Path, phone: OpenPage, desk: OpenPage) -> None:
    assert_none(phone.list_events() + desk.list_events())
    with open_page(chrome, page) as opened:
        assert_none(find_policy_holes(opened))


@pytest.mark.parametrize("page", [name for name in PAGES if name != "unfinished"], indirect=True)
def test_size(page: Path) -> None:
    assert_none(find_size_faults(page, SMALL))


@pytest.mark.parametrize("page", OF_RUNS, indirect=True)
def test_the_first_screen_of_a_phone(chrome: Any, page: Path) -> None:
    outcomes = pd.read_parquet(page.with_name("outcomes.parquet"))
    wanted = outcomes[outcomes["wanted"]]
    samples = int(wanted["outcome"].isin([outcome.value for outcome in Outcome if outcome.is_sample]).sum())
    with open_page(chrome, page, 390) as opened:
        title = opened.page.locator("h1").inner_text()
        verdict = opened.page.evaluate("pageChecks.readText('.verdict li p')")
        texts = [title, f"{samples:,}", f"{len(wanted):,}", verdict]
        assert_none(find_missing_on_first_screen(opened, texts, pictures=min(samples, 1)))


def test_pictures_can_be_enlarged(chrome: Any, sample: Path, comparison: Path) -> None:
    for page in (sample, comparison):
        with open_page(chrome, page) as opened:
            assert opened.page.locator(ENLARGE).count() > 3


def test_markup_in_names_is_text(chrome: Any, hostile: Path) -> None:
    with open_page(chrome, hostile) as opened:
        open_all(opened)
        text = opened.page.locator("body").inner_text()
        assert SCRIPT in text
        assert "{{ 7 * 7 }}" in text
        assert opened.page.locator("script").count() == 1
        assert opened.page.locator("img:not([src^='data:'])").count() == 0
        assert_none(opened.list_events())
