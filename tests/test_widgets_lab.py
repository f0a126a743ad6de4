"""The explorer and the review in JupyterLab, as people use them: with the real kernel, files, keys and mouse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import launch_chrome
from imagined_runs import make_imagined_run, make_rows
from lab import ERROR, NOTEBOOK_PANEL, list_prompts, open_lab, run_all, wait_until
from skips import need_extra

from detectime.cli.projects import init_project
from detectime.decision_files import read_decisions
from detectime.exports.export import export_run
from detectime.runs import FinishedRun, open_run
from detectime.schema import SAMPLES

need_extra("jupyterlab")
need_extra("playwright")

pytestmark = [pytest.mark.browser, pytest.mark.extra, pytest.mark.slow]

EXPLORER, REVIEW = ".detectime-explorer", ".detectime-review"
STILL = "[data-detectime-still]"
MOST_FRAMES = 175_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch_chrome() as chrome:
        yield chrome


@pytest.fixture
def project(tmp_path: Path, sample_run: Path) -> Path:
    init_project(tmp_path / "project")
    shutil.copytree(sample_run, tmp_path / "project" / "reports" / "sample")
    return tmp_path / "project"


def write_notebook(project: Path, *cells: str) -> None:
    """Write the notebook ``try.ipynb``; between its cells is text."""
    parts = [
        part for code in cells for part in (nbformat.v4.new_code_cell(code), nbformat.v4.new_markdown_cell("then"))
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=parts, metadata=kernel), project / "try.ipynb")


def open_notebook(page: Any, name: str) -> None:
    """Open a notebook of the project, and wait for its kernel."""
    page.goto(f"{page.url.split('/lab')[0]}/lab/tree/{name}?reset")
    page.add_style_tag(content=".Toastify { display: none; }")  # an invitation that lies over the page
    page.locator(f"{NOTEBOOK_PANEL} .jp-Cell").first.wait_for()
    page.wait_for_timeout(1000)
    idle = ".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status='idle']"
    page.locator(idle).first.wait_for(state="attached")


def wait_for_phase(page: Any, phase: str = "ready") -> None:
    page.wait_for_function(f"document.querySelector('{REVIEW}')?.dataset.phase === '{phase}'")


def press(page: Any, key: str) -> None:
    """Press a key when the review shows a frame."""
    wait_for_phase(page)
    page.keyboard.press(key)
    page.wait_for_timeout(50)


def list_actions(run: FinishedRun) -> list[str]:
    decisions, _ = read_decisions(run.store)
    return [decision.action for decision in decisions]


def save_notebook(page: Any, notebook: Path) -> list[tuple[str, str]]:
    """Save the notebook; return what typing in it would change: the kind and the text of each cell."""
    before = notebook.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    wait_until(lambda: notebook.stat().st_mtime_ns != before, "the notebook is saved")
    page.wait_for_timeout(500)
    return [(cell["cell_type"], cell["source"]) for cell in nbformat.read(notebook, as_version=4).cells]


def find_kernels(folder: Path) -> list[int]:
    """Return the kernels that work in a folder."""
    found = subprocess.run(["pgrep", "-f", "ipykernel_launcher"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if Path(f"/proc/{pid}/cwd").resolve().is_relative_to(folder)]


def test_notebook_03_reviewed_by_keys_and_mouse_with_a_kernel_that_dies(
    browser: Any, project: Path, tmp_path: Path
) -> None:
    run = open_run(project / "reports" / "sample")
    before = {row["frame_path"]: row for row in json.loads((project / "reports/sample/hands.json").read_text())}
    with open_lab(browser, project, tmp_path) as page:
        open_notebook(page, "notebooks/03_review.ipynb")
        run_all(page)
        assert page.locator(ERROR).count() == 0, page.locator(ERROR).all_inner_texts()
        assert page.locator(EXPLORER).count() == 1
        wait_for_phase(page)
        notebook = project / "notebooks" / "03_review.ipynb"
        cells = save_notebook(page, notebook)
        review = page.locator(REVIEW)
        review.scroll_into_view_if_needed()
        review.focus()

        press(page, "k")
        press(page, "x")
        wait_until(lambda: list_actions(run) == ["keep", "reject"], "two decisions")
        press(page, "3")
        wait_until(lambda: list_actions(run)[2:] == ["label", "keep"], "a class")
        press(page, "x")
        wait_until(lambda: list_actions(run)[4:] == ["reject"], "a decision")
        press(page, "u")
        wait_until(lambda: list_actions(run)[5:] == ["undo"], "an undo")
        for key in ("a", "d", "b", "m", "y", "z", "z", "ArrowDown", "ArrowUp", "Escape"):  # what cells would take
            press(page, key)
        assert [action for action in list_actions(run) if action not in ("choose_hand",)][6:] == []
        wait_for_phase(page)
        drag_new_box(page)
        press(page, "k")
        wait_until(lambda: list_actions(run)[-1] == "box", "a drawn box")
        assert page.evaluate("document.activeElement.closest('.detectime') !== null")
        assert save_notebook(page, notebook) == cells, "typing never touches the notebook"
        decided = list_actions(run)
        drawn = read_decisions(run.store)[0][-1]

        for kernel in find_kernels(project):
            os.kill(kernel, signal.SIGKILL)
        page.locator(".jp-Dialog", has_text="Kernel Restarting").locator("button").first.click()
        review.focus()
        page.keyboard.press("x")
        page.locator(REVIEW).get_by_role("alert").filter(has_text="does not answer").wait_for()
        assert list_actions(run) == decided

        page.keyboard.press("Control+s")
        page.reload()
        open_notebook(page, "notebooks/03_review.ipynb")
        run_all(page)
        wait_for_phase(page)
        assert page.locator(ERROR).count() == 0, page.locator(ERROR).all_inner_texts()
        assert list_actions(run) == decided
    run.refresh()
    samples = {row["frame_path"]: row for row in json.loads((project / "reports/sample/hands.json").read_text())}
    decisions = read_decisions(run.store)[0]
    kept, rejected = decisions[0].frame_path, decisions[1].frame_path
    assert samples[kept] == before[kept]
    assert rejected in before
    assert rejected not in samples
    assert samples[decisions[2].frame_path]["label"] == run.config.labels[str(decisions[2].class_name)]
    assert drawn.box is not None
    assert samples[drawn.frame_path]["bbox"] != before[drawn.frame_path]["bbox"]
    (export,) = export_run(run, ["csv"], tmp_path / "exports", workers=1)
    text = (Path(export.folder) / "samples.csv").read_text()
    assert kept in text
    assert rejected not in text


def drag_new_box(page: Any) -> None:
    """Draw a box with the mouse into the upper left of the picture."""
    picture = page.locator(f"{REVIEW} img").first.bounding_box()
    x, y = picture["x"] + 0.1 * picture["width"], picture["y"] + 0.1 * picture["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 60, steps=5)
    page.mouse.up()


def test_two_hundred_decisions_are_all_on_disk_and_quick(browser: Any, project: Path, tmp_path: Path) -> None:
    output = project / "reports" / "sample"
    lines = "from detectime import runs\nfrom detectime.widgets import Review\n"
    write_notebook(
        project,
        *(f'{lines}Review(runs.open_run("{output}"), sample=100, reviewer="{name}")' for name in ("anna", "ben")),
    )
    times: list[float] = []
    with open_lab(browser, project, tmp_path) as page:
        open_notebook(page, "try.ipynb")
        run_all(page)
        for number in range(2):
            times += keep_all(page, number)
    decisions, notes = read_decisions(open_run(output).store)
    assert notes == []
    assert Counter(decision.reviewer for decision in decisions) == {"anna": 100, "ben": 100}
    assert len({(decision.reviewer, decision.frame_path) for decision in decisions}) == 200
    assert {decision.action for decision in decisions} == {"keep"}
    print(f"from key to next picture: median {statistics.median(times):.0f} ms")
    assert statistics.median(times) < 1000, "150 ms on a machine that does nothing else"


def keep_all(page: Any, number: int) -> list[float]:
    """Keep all frames of a review; return the milliseconds from each key to the next picture."""
    root = page.locator(REVIEW).nth(number)
    root.wait_for()
    element = root.element_handle()
    page.wait_for_function("root => root.dataset.phase === 'ready'", arg=element)
    root.focus()
    page.evaluate(_MEASURE, element)
    for _ in range(100):
        page.wait_for_function("root => root.dataset.phase === 'ready'", arg=element)
        page.keyboard.press("k")
    page.wait_for_function("root => root.dataset.phase === 'end'", arg=element)  # the last one is on disk
    measured: list[float] = page.evaluate("window.times")
    return measured


_MEASURE = """(root) => {
  window.times = [];
  let begun = null;
  root.addEventListener("keydown", () => { begun = performance.now(); }, true);
  new MutationObserver(() => {
    if (root.dataset.phase !== "ready" || begun === null) return;
    const start = begun;
    begun = null;
    requestAnimationFrame(() => window.times.push(performance.now() - start));
  }).observe(root, { attributes: true, attributeFilter: ["data-phase"] });
}"""


def test_the_explorer_in_notebook_01_tries_pairing_and_writes_on_apply_alone(
    browser: Any, project: Path, tmp_path: Path
) -> None:
    hands = project / "reports" / "sample" / "hands.json"
    run = open_run(project / "reports" / "sample")
    with open_lab(browser, project, tmp_path) as page:
        run_all(page)
        assert page.locator(ERROR).count() == 0, page.locator(ERROR).all_inner_texts()
        explorer = page.locator(EXPLORER)
        explorer.get_by_role("gridcell").first.wait_for()
        explorer.scroll_into_view_if_needed()
        assert page.locator(f"{STILL}:visible").count() == 0, "the live widget takes the place of the picture"
        written = hands.read_bytes()
        explorer.locator("details.pairing > summary").click()
        slider = explorer.get_by_role("slider", name="crop_coefficient").first
        slider.focus()
        for _ in range(20):
            page.keyboard.press("ArrowLeft")
        value = float(slider.input_value())
        assert value == pytest.approx(0.5)
        expected = run.pair_frames(_change(run, crop_coefficient=value)).samples
        count = int(expected["outcome"].isin(SAMPLES).sum())
        assert count < len(json.loads(written))
        explorer.get_by_text(f"{count} samples").first.wait_for()
        assert hands.read_bytes() == written, "nothing is written until Apply"
        explorer.get_by_role("button", name="Apply…").click()
        explorer.get_by_role("button", name="Apply", exact=True).click()
        wait_until(lambda: hands.read_bytes() != written, "hands.json is written")
    assert len(json.loads(hands.read_text())) == count
    run.refresh()
    assert run.pairing.crop_coefficient == pytest.approx(value)


def _change(run: FinishedRun, **values: Any) -> Any:
    from detectime.comparison import change_settings

    return change_settings(run.pairing, values)


_ECHO = (
    """
import anywidget

class Echo(anywidget.AnyWidget):
    _esm = """
    + '"""'
    + """
    export default { async render({ model, el }) {
      const times = [];
      let answered;
      model.on("msg:custom", () => answered());
      for (let k = 0; k < 20; k += 1) {
        const begun = performance.now();
        await new Promise((done) => { answered = done; model.send({ k }); });
        times.push(performance.now() - begun);
      }
      el.className = "echo";
      el.textContent = times.sort((a, b) => a - b)[10];
    } };
    """
    + '"""'
    + """
    def __init__(self):
        super().__init__()
        self.on_msg(lambda _, content, buffers: self.send(content))

Echo()
"""
)
"""Measures the bare way to the kernel and back, in milliseconds."""

_MOVE = """async ({ slider, count, value }) => {
  const before = count.textContent, begun = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  while (count.textContent === before) await new Promise((done) => setTimeout(done, 2));
  return performance.now() - begun;
}"""
"""Moves a slider, and waits until another count stands beside it."""

RATIO = 60
"""Of the time from a slider to the counts of 175,000 frames to the bare way to the kernel and back: 300 ms to 5 ms."""


@pytest.mark.large
def test_many_frames_stay_usable(browser: Any, project: Path, tmp_path: Path) -> None:
    run = make_imagined_run(tmp_path, make_rows(MOST_FRAMES, ("ok", "stop", "like"), per_group=50))
    lines = "from detectime import runs\nfrom detectime.widgets import Explorer\n"
    write_notebook(project, _ECHO, f"{lines}shown = Explorer(runs.open_run({str(run.store)!r}))\nshown")
    with open_lab(browser, project, tmp_path) as page:
        open_notebook(page, "try.ipynb")
        run_all(page)
        assert page.locator(ERROR).count() == 0, page.locator(ERROR).all_inner_texts()
        bare = float(page.locator(".echo").inner_text())
        explorer = page.locator(EXPLORER)
        explorer.get_by_text("175,000").first.wait_for()
        grid = explorer.get_by_role("grid")
        explorer.get_by_role("gridcell").first.focus()
        page.keyboard.press("Control+End")
        grid.locator("[role=row][aria-rowindex]").last.wait_for()
        assert explorer.get_by_role("gridcell").count() < 300
        explorer.locator("details.pairing > summary").click()
        page.wait_for_timeout(15_000)  # doubt is scored in a process beside
        place = {
            "slider": explorer.get_by_role("slider", name="crop_coefficient").first.element_handle(),
            "count": explorer.locator(".effect p").first.element_handle(),
        }
        times = [page.evaluate(_MOVE, place | {"value": str(0.6 + 0.1 * k)}) for k in range(9)]
    print(f"slider to counts: median {statistics.median(times):.0f} ms; bare: {bare:.1f} ms")
    assert statistics.median(times) < RATIO * bare


_COLAB = """
class _widgets:
    _installed_url = None

def enable_custom_widget_manager():
    open("enabled", "w").close()
"""


def test_a_kernel_that_looks_like_colab(browser: Any, project: Path, tmp_path: Path) -> None:
    fake = tmp_path / "colab" / "google" / "colab"
    fake.mkdir(parents=True)
    (fake / "output.py").write_text(_COLAB)
    output = project / "reports" / "sample"
    write_notebook(
        project,
        "import google.colab.output  # as Colab does",
        f"from detectime import runs, widgets\nwidgets.Review(runs.open_run({str(output)!r}), reviewer='anna')",
    )
    variables = {"COLAB_RELEASE_TAG": "release-colab_20270101", "PYTHONPATH": str(tmp_path / "colab")}
    with open_lab(browser, project, tmp_path, variables) as page:
        open_notebook(page, "try.ipynb")
        run_all(page)
        assert page.locator(ERROR).count() == 0, page.locator(ERROR).all_inner_texts()
        wait_for_phase(page)
        page.locator(REVIEW).focus()
        press(page, "k")
        press(page, "x")
        wait_until(lambda: list_actions(open_run(output)) == ["keep", "reject"], "two decisions")
    assert (project / "enabled").is_file(), "Colab allows widgets of others only if it is asked"


def test_a_saved_notebook_keeps_a_picture_and_a_sentence(browser: Any, project: Path, tmp_path: Path) -> None:
    output = project / "reports" / "sample"
    lines = (
        f'from detectime import runs\nfrom detectime.widgets import Explorer, Review\nrun = runs.open_run("{output}")'
    )
    write_notebook(project, lines, "Explorer(run)", 'Review(run, reviewer="anna")')
    with open_lab(browser, project, tmp_path) as page:
        open_notebook(page, "try.ipynb")
        run_all(page)
        wait_for_phase(page)
        page.keyboard.press("Control+s")
        wait_until(lambda: STILL.strip("[]") in (project / "try.ipynb").read_text(), "the notebook is saved")
    (tmp_path / "later").mkdir()
    with open_lab(browser, project, tmp_path / "later") as page:
        open_notebook(page, "try.ipynb")
        for words in ("100 of 108 gesture frames have a sample", "Review of 108 frames"):  # both are not trusted here
            picture = page.locator(f'{NOTEBOOK_PANEL} img[alt*="{words}"]')
            picture.wait_for()
            assert picture.evaluate("image => image.naturalWidth") > 500
            page.locator("figcaption", has_text=words).wait_for()
        assert list_prompts(page) == ["[1]:", "[2]:", "[3]:"]
