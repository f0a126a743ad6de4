"""The site of the documentation: its menu, its pages of modules, its links, and the check of what was built."""

from __future__ import annotations

import ast
import importlib.util
import re
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
    there |= {
        node.targets[0].id for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    imports = [node for part in body for node in ([part, *part.body] if isinstance(part, ast.If) else [part])]
    there |= {name.asname or name.name for node in imports if isinstance(node, ast.ImportFrom) for name in node.names}
    assert set(module.names) <= there
    spec = importlib.util.find_spec(module.module)
    assert spec is not None
    assert spec.origin == str(ROOT / module.path)


def test_every_row_of_the_page_of_modules_is_read() -> None:
    rows = [line for line in (ROOT / site_pages.API).read_text().splitlines() if line.startswith("| [")]
    assert len(MODULES) == len(rows) >= 30


def list_imports() -> set[tuple[str, str]]:
    """Return the modules that the Python blocks of the pages import, and the names that they take from each."""
    found = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "detectime":
                    found |= {(str(node.module), name.name) for name in node.names}
                elif isinstance(node, ast.Import):
                    found |= {(name.name, "") for name in node.names if name.name.startswith("detectime.")}
    return found


def test_what_the_pages_import_is_public() -> None:
    names = {module.module: {"", *module.names} for module in MODULES}
    hidden = [
        f"{module}.{name}"
        for module, name in sorted(list_imports())
        if f"{module}.{name}" not in names and name not in names.get(module, ())
    ]
    assert hidden == []


def test_errors_of_the_page_of_modules_exist() -> None:
    """Read from the source, as above."""
    rows = re.findall(r"^\| `(\w+Error)` \| `([\w.]+)` \|", (ROOT / site_pages.API).read_text(), re.MULTILINE)
    assert len(rows) >= 15
    for name, module in rows:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        assert re.search(rf"^class {name}\b|import .*\b{name}\b|^    {name},$", source, re.MULTILINE), (name, module)


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


def test_links_whose_text_is_a_file_get_the_title_of_the_page() -> None:
    title = site_pages.read_title("docs/train.md")
    assert title == "Train a classifier"
    page = "[train.md](train.md#which-model) [docs/train.md](train.md) [here](train.md) `[train.md](train.md)`\n"
    assert site_pages.name_links(page, "docs/data.md") == page.replace(
        "[train.md](train.md#", f"[{title}](train.md#"
    ).replace("[docs/train.md]", f"[{title}]")


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
