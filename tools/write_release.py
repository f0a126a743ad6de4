"""Write the version and the address of ``pyproject.toml`` wherever else they stand.

python -m tools.write_release

The version is `project.version`. The address is `project.urls.Repository`, which is absent until there is one:
``https://github.com/OWNER/NAME``. With it, the notebooks install the wheel of the release from there in Colab, and a
badge opens notebook 01; without it, they expect a wheel that was uploaded, and there is no badge. The site of the
documentation names the address, and its own, which is that of GitHub Pages.

The day of the release is the date beside the version in ``CHANGELOG.md``, once there is one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import definitions
from detectime import paths

_BADGE = "<!-- Colab -->"
_COLAB = "https://colab.research.google.com"


def main() -> None:
    """Write the files again."""
    for file, content in update_files(Path(definitions.ROOT_DIR)):
        file.write_text(content, encoding="utf-8")


def update_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file that has the version or the address, and its content with those of ``pyproject.toml``.

    Parameters
    ----------
    root
        The clone.

    Examples
    --------
    >>> all(file.read_text(encoding="utf-8") == content for file, content in update_files(Path(definitions.ROOT_DIR)))
    True
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version, address = project["version"], project.get("urls", {}).get("Repository", "").rstrip("/")
    wheel = f"detectime-{version}-py3-none-any.whl"
    package = f"{address}/releases/download/v{version}/{wheel}" if address else f"/content/{wheel}"
    day = _find_day((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    released = f"date-released: {day}\n" if day else ""
    listed = f'repository-code: "{address}"\n' if address else ""
    changes = {
        r'(?m)(?<=^__version__ = ")[^"]*': version,
        r"(?m)^version: [0-9]+\.[0-9]+\.[0-9]+\S*\n(date-released: .*\n)?": f"version: {version}\n{released}",
        r"(?m)^license: MIT\n(repository-code: .*\n)?": f"license: MIT\n{listed}",
        r"detectime-[0-9][\w.+]*-py3-none-any\.whl": wheel,
        r'(?<=PACKAGE = \\")[^"]*(?=\\")': package,
        rf"(\[!\[Open in Colab\]\S* )?{_BADGE}": f"{_make_badge(address, version)}{_BADGE}",
    }
    site = root / "mkdocs.yml"
    notebooks, pages = root.glob("notebooks/*.ipynb"), root.glob("docs/*.md")
    for file in (root / "detectime" / "__init__.py", root / "CITATION.cff", root / "README.md", *notebooks, *pages):
        content = file.read_text(encoding="utf-8")
        for pattern, text in changes.items():
            content = re.sub(pattern, lambda _, text=text: text, content)  # type: ignore[misc]
        yield file, content
    keys = _list_site_keys(address)
    content = re.sub(r"(?m)^(site_url|repo_url): .*\n", "", site.read_text(encoding="utf-8"))
    yield site, re.sub(r"(?m)^site_name: .*\n", lambda found: found[0] + keys, content)


def _find_day(changelog: str, version: str) -> str | None:
    """Return the date of a version in the changelog; None if it is unreleased."""
    found = re.search(rf"(?m)^## \[{re.escape(version)}\] – (\d{{4}}-\d\d-\d\d)$", changelog)
    return found[1] if found else None


def _list_site_keys(address: str) -> str:
    """Return the lines of ``mkdocs.yml`` that have the address; the site has one of its own on GitHub Pages alone."""
    if not address:
        return ""
    owner, _, name = address.removeprefix("https://github.com/").partition("/")
    site = f"site_url: https://{owner.lower()}.github.io/{name}/\n" if _is_github(address) else ""
    return f"{site}repo_url: {address}\n"


def _is_github(address: str) -> bool:
    return address.startswith("https://github.com/")


def _make_badge(address: str, version: str) -> str:
    """Return a badge in Markdown that opens notebook 01 of the release in Colab; nothing if it is not on GitHub."""
    if not _is_github(address):
        return ""
    notebook = f"{address.removeprefix('https://github.com')}/blob/v{version}/notebooks/{paths.DATA_LOADER}"
    return f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]({_COLAB}/github{notebook}) "


if __name__ == "__main__":
    main()
