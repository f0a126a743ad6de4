"""A hook of MkDocs: the pages of the site that are no files of docs/, and links that are right on the site too.

The pages are Markdown for a code host, where a link is a path in the repository. On the site, a page of the root lies
beside those of docs/, and a link to a public module leads to a page with its docstrings: docs/api.md lists the modules.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig  # type: ignore[import-not-found]
    from mkdocs.structure.files import Files  # type: ignore[import-not-found]

ROOT = Path(__file__).resolve().parents[1]
API = "docs/api.md"

PLACES = {
    "README.md": "index.md",
    "docs/README.md": "contents.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "results.md",
    "NOTICE": "NOTICE.txt",
}
"""Files of the repository, and where they lie on the site: those that do not lie there as in docs/."""

FOUND_LAST = ("changelog.md", "results.md")
"""Pages of the site that a search lists after others."""

_FENCED = re.compile(r"(^```.*?^```\n?)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?P<before>\]\(|<img src=\")(?P<path>[^)\s\"#:]+)(?=[)\s\"#])")
_NAMED = re.compile(r"(?<![`!])\[(?:[\w-]+/)*[\w-]+\.md\](?P<after>\((?P<path>[^)\s#:]+\.md)(?:#[^)\s]*)?\))")
_BADGE = re.compile(r"!\[(?P<text>[^\]]*)\]\(https?://[^)]*\)")
_ROW = re.compile(
    r"^\| \[`(?P<module>[\w.]+)`\]\(\.\./(?P<path>[\w./]+)\) \| (?P<names>[^|]+) \| (?P<use>.+) \|$", re.M
)


class PublicModule(NamedTuple):
    """A row of docs/api.md: a module, its file in the repository, its public names, and what it is for."""

    module: str
    path: str
    names: list[str]
    use: str


def list_modules(text: str) -> Iterator[PublicModule]:
    """Yield the modules that the text of docs/api.md lists.

    Examples
    --------
    >>> list(list_modules("| [`detectime.a`](../detectime/a.py) | `b`, `C` | does d |"))
    [PublicModule(module='detectime.a', path='detectime/a.py', names=['b', 'C'], use='does d')]
    """
    for row in _ROW.finditer(text):
        yield PublicModule(row["module"], row["path"], re.findall(r"`(\w+)`", row["names"]), row["use"])


def make_module_page(module: PublicModule) -> str:
    """Return the page of a module, as mkdocstrings reads it.

    Examples
    --------
    >>> print(make_module_page(PublicModule("detectime.a", "detectime/a.py", ["b"], "does d")))
    # `detectime.a`
    <BLANKLINE>
    ::: detectime.a
        options: {members: false}
    <BLANKLINE>
    ::: detectime.a.b
        options: {show_root_heading: true, show_root_full_path: false, show_root_toc_entry: true}
    <BLANKLINE>
    """
    head = f"# `{module.module}`\n\n::: {module.module}\n    options: {{members: false}}\n"
    options = "{show_root_heading: true, show_root_full_path: false, show_root_toc_entry: true}"
    return head + "".join(f"\n::: {module.module}.{name}\n    options: {options}\n" for name in module.names)


def find_place(path: str) -> str:
    """Return where a file of the repository lies on the site; both as paths with slashes.

    Examples
    --------
    >>> find_place("docs/data.md"), find_place("CHANGELOG.md"), find_place("detectime/splits/__init__.py")
    ('data.md', 'changelog.md', 'api/splits.md')
    """
    if path.startswith("detectime/") and path.endswith(".py"):
        name = path.removeprefix("detectime/").removesuffix(".py").removesuffix("/__init__")
        return f"api/{name.replace('/', '.')}.md"
    return PLACES.get(path, path.removeprefix("docs/"))


def rewrite_links(markdown: str, path: str) -> str:
    """Return a page with its links as they are on the site.

    A picture of another host, such as a badge, becomes its text: the site loads nothing from elsewhere.

    Parameters
    ----------
    markdown
        The page.
    path
        Its place in the repository.

    Examples
    --------
    >>> print(rewrite_links("[a](../CHANGELOG.md#b) [c](README.md) `[d](README.md)`", "docs/data.md"))
    [a](changelog.md#b) [c](contents.md) `[d](contents.md)`
    >>> print(rewrite_links("[a](docs/data.md) ![b](https://host/b.svg)", "README.md"))
    [a](data.md) b
    """

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["path"]))
        here = posixpath.dirname(find_place(path))
        return match["before"] + posixpath.relpath(find_place(target), here or ".")

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(rewrite, _BADGE.sub(r"\g<text>", part)) for part in parts[::2]]
    return "".join(parts)


def read_title(path: str) -> str:
    """Return the title of a page of the repository.

    Examples
    --------
    >>> read_title("docs/README.md")
    'Documentation'
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


def name_links(markdown: str, path: str) -> str:
    """Return a page whose links are called as the page that they lead to, where their text is only its file.

    Parameters
    ----------
    markdown
        The page, with the links of the repository.
    path
        Its place in the repository.

    Examples
    --------
    >>> name_links("[README.md](README.md#a) [here](README.md)", "docs/data.md")
    '[Documentation](README.md#a) [here](README.md)'
    """

    def name(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["path"]))
        return f"[{read_title(target)}]{match['after']}"

    parts = _FENCED.split(markdown)
    parts[::2] = [_NAMED.sub(name, part) for part in parts[::2]]
    return "".join(parts)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of the public modules to the menu, below that of docs/api.md."""
    (reference,) = [entry["Reference"] for entry in config.nav if "Reference" in entry]
    (menu,) = [entry["Python"] for entry in reference if "Python" in entry]
    modules = list_modules((ROOT / API).read_text(encoding="utf-8"))
    menu.extend({module.module.removeprefix("detectime."): find_place(module.path)} for module in modules)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and one for each public module."""
    from mkdocs.structure.files import File

    for path, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for module in list_modules((ROOT / API).read_text(encoding="utf-8")):
        files.append(File.generated(config, find_place(module.path), content=make_module_page(module)))
    return files


def find_lost_items(markdown: str, html: str) -> str:
    """Say which items and tables of a page the site shows as text; empty if none.

    Code hosts read some Markdown as lists and tables that the site's reader does not: lists within lists need four
    spaces, and a list needs an empty line before it.

    Examples
    --------
    >>> find_lost_items("a\\n- b", "<p>a - b</p>")
    '1 items of lists in the text, 0 on the site'
    >>> find_lost_items("- b", "<ul><li>b</li></ul>")
    ''
    """
    text = "".join(_FENCED.split(markdown)[::2])
    for what, pattern, mark in (
        ("items of lists", r"^ *(?:[-*]|\d+\.) ", "<li>"),
        ("tables", r"^ *\| -+:? \|", "<table>"),
    ):
        written, shown = len(re.findall(pattern, text, re.MULTILINE)), html.count(mark)
        if written != shown:
            return f"{written} {what} in the text, {shown} on the site"
    return ""


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Warn, which `--strict` makes an error, of what the site does not show as a code host does."""
    lost = "" if page.file.src_uri.startswith("api/") else find_lost_items(page.markdown, html)
    if lost:
        logging.getLogger("mkdocs.hooks.site_pages").warning("%s: %s", page.file.src_uri, lost)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, and say how it is shown and found.

    A page that is alone in its part of the menu needs no menu beside it; long pages that nobody looks for come last.
    """
    if page.parent is None:
        page.meta["hide"] = ["navigation"]
    if page.file.src_uri in FOUND_LAST:
        page.meta["search"] = {"boost": 0.5}
    at = {place: path for path, place in PLACES.items()}
    place = page.file.src_uri
    if place.startswith("api/"):
        return markdown
    path = at.get(place, f"docs/{place}")
    return rewrite_links(name_links(markdown, path), path)


def on_post_build(config: MkDocsConfig) -> None:
    """Write the index of the search as a script too: a page that is opened as a file may load nothing else.

    The page for addresses that do not exist is left out: it would look for its styles at the root of the host.
    """
    Path(config.site_dir, "404.html").unlink(missing_ok=True)
    folder = Path(config.site_dir, "search")
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
