"""Draw the pictures of the explorer and the review: both in JupyterLab, on the rendered sample.

make demo test-browser && .venv/bin/python -m tools.draw_widgets
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

import definitions
from detectime.cli.projects import init_project

sys.path.insert(0, str(definitions.ROOT_DIR / "tests"))

from browser import launch_chrome
from lab import NOTEBOOK_PANEL, open_lab, run_all

_RUN = definitions.ROOT_DIR / "reports" / "demo"
_DOCS = definitions.ROOT_DIR / "docs"
_WIDTH = 1280  # pixels of the window
_IMPORTS = "from detectime import runs\nfrom detectime.widgets import Explorer, Review\n"
_CELLS = {
    "explorer": f'{_IMPORTS}Explorer(runs.open_run("demo"))',
    "review": f'{_IMPORTS}Review(runs.open_run("demo"), reviewer="anna")',
}


def main() -> None:
    """Write docs/explorer.jpg and docs/review.jpg from the run of ``make demo``."""
    with tempfile.TemporaryDirectory() as folder, launch_chrome() as chrome:
        for name, code in _CELLS.items():
            own = Path(folder, name)  # with a layout of its own
            project = own / "project"
            init_project(project)
            shutil.copytree(_RUN, project / "demo")
            cell = nbformat.v4.new_code_cell(code)
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), project / f"{name}.ipynb")
            with open_lab(chrome, project, own) as page:
                page.set_viewport_size({"width": _WIDTH, "height": 1100})
                page.goto(f"{page.url.split('/lab')[0]}/lab/tree/{name}.ipynb?reset")
                page.add_style_tag(content=".Toastify { display: none; }")
                page.locator(f"{NOTEBOOK_PANEL} .jp-Cell").first.wait_for()
                page.wait_for_timeout(3000)
                page.keyboard.press("Control+B")  # the list of files
                run_all(page)
                _prepare(page, name)
                picture = Image.open(io.BytesIO(page.locator(f".detectime-{name}").screenshot()))
            picture.convert("RGB").save(_DOCS / f"{name}.jpg", quality=78, optimize=True, progressive=True)


def _prepare(page: Any, name: str) -> None:
    """Bring a widget to the state that is drawn."""
    if name == "review":
        page.wait_for_function("document.querySelector('.detectime-review')?.dataset.phase === 'ready'")
        page.locator(".detectime-review").focus()
        for key in "kkkkkxkk":
            page.wait_for_function("document.querySelector('.detectime-review').dataset.phase === 'ready'")
            page.keyboard.press(key)
            page.wait_for_timeout(400)
    else:
        explorer = page.locator(".detectime-explorer")
        explorer.get_by_role("gridcell").first.wait_for()
        explorer.locator("details.pairing > summary").click()
        slider = explorer.get_by_role("slider", name="crop_coefficient").first
        slider.focus()
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(15_000)  # until everything has come: pictures, doubt


if __name__ == "__main__":
    main()
