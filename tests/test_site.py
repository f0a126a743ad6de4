"""The site of the documentation: its menu, its pages of modules, its links, and the check of what was built."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

import definitions
from tools import check_site, site_pages

ROOT = Path(definitions.ROOT_DIR)
MODULES = list(site_pages.list_modules((ROOT / site_pages.API).read_text()))


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, in which a tag names a Python function."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def list_menu(entry: Any) -> list[str]:
    """Return the pages of a menu, or of a part of one."""
    if isinstance(entry, str):
        return [entry]
    parts = entry if isinstance(entry, list) else entry.values()
    return [page for part in parts for page in list_menu(part)]


def test_every_page_is_in_the_menu_once() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=_Loader)
    pages = [site_pages.find_place(f"docs/{path.name}") for path in (ROOT / "docs").glob("*.md")]
    pages += [place for path, place in site_pages.PLACES.items() if place.endswith(".md") and "/" not in path]
    pages += [site_pages.PLACES["benchmarks/RESULTS.md"]]
    assert sorted(list_menu(config["nav"])) == sorted(pages)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.module)
def test_public_names_exist(module: site_pages.PublicModule) -> None:
    """Read from the source, since `detectime.dataset` needs torch."""
    body = ast.parse((ROOT / module.path).read_text()).body
    there = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    there |= {name.asname or name.name for node in body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert set(module.names) <= there
    spec = importlib.util.find_spec(module.module)
    assert spec is not None
    assert spec.origin == str(ROOT / module.path)


def test_every_row_of_the_page_of_modules_is_read() -> None:
    rows = [line for line in (ROOT / site_pages.API).read_text().splitlines() if line.startswith("| [")]
    assert len(MODULES) == len(rows) >= 30


def test_what_is_said_to_be_on_the_site_exists() -> None:
    assert [path for path in site_pages.PLACES if not (ROOT / path).is_file()] == []


def test_links_in_code_blocks_stay() -> None:
    page = (
        "[a](../NOTICE)\n```sh\necho '[a](../NOTICE)'\n```\n<img src=\"explorer.jpg\"> [b](https://x.org/README.md)\n"
    )
    assert site_pages.rewrite_links(page, "docs/data.md") == page.replace("../NOTICE", "NOTICE.txt", 1)


def test_links_of_a_page_of_another_folder() -> None:
    assert (
        site_pages.rewrite_links("[a](../docs/data.md#b) [c](#d)", "benchmarks/RESULTS.md") == "[a](data.md#b) [c](#d)"
    )


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1> <a href="#top"> <a href="sub/page.html#here"> <a href="https://elsewhere.org/x">'
        '<link rel="canonical" href="https://elsewhere.org/"> <a href="#no"> <a href="no.html">'
        '<a href="sub/page.html#no">'
    )
    (tmp_path / "sub" / "page.html").write_text(
        '<p id="here"> <a href="/index.html#top"> <img src="no.png"> <script src="https://elsewhere.org/x.js"></script>'
        '<link rel="stylesheet" href="../a.css">'
    )
    (tmp_path / "a.css").write_text(
        "@import 'https://elsewhere.org/b.css'; a { background: url(data:image/png;base64,AA) }"
    )
    assert list(check_site.find_faults(tmp_path)) == [
        "index.html: no such anchor: #no",
        "index.html: no such file: no.html",
        "index.html: no such anchor: sub/page.html#no",
        "sub/page.html: loads https://elsewhere.org/x.js",
        "sub/page.html: no such file: no.png",
        "a.css: loads https://elsewhere.org/b.css",
    ]
