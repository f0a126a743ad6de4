"""The version and the address: one place, and what is written from it. And what hosts and registries read."""

from __future__ import annotations

import re
import shutil
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import definitions
import detectime
from detectime import paths
from detectime.cli.main import build_parser
from tools import write_release

ROOT = Path(definitions.ROOT_DIR)
ADDRESS = "https://github.com/somebody/hands"
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the files that have the version or the address."""
    for file in [
        ROOT / "pyproject.toml",
        ROOT / "CHANGELOG.md",
        *(file for file, _ in write_release.update_files(ROOT)),
    ]:
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tmp_path


def write_files(root: Path, version: str, address: str | None) -> dict[str, str]:
    """Write the files for a version and an address; return their contents by name."""
    urls = f'[project.urls]\nRepository = "{address}"\n\n' if address else ""
    project = (ROOT / "pyproject.toml").read_text()
    project = re.sub(r'(?m)^version = ".*"', f'version = "{version}"', project)
    project = re.sub(r"(?m)^\[project\.urls\]\n(.+\n)+\n", "", project)
    (root / "pyproject.toml").write_text(project.replace("[project.scripts]", f"{urls}[project.scripts]"))
    for file, content in write_release.update_files(root):
        file.write_text(content, encoding="utf-8")
    return {str(file.relative_to(root)): content for file, content in write_release.update_files(root)}


def find_packages(files: dict[str, str]) -> dict[str, str]:
    """Return what each notebook installs in Colab."""
    return {
        name: re.findall(r'PACKAGE = \\"(.*?)\\"', content)[0] for name, content in files.items() if "ipynb" in name
    }


def test_everything_agrees_with_pyproject() -> None:
    """Run ``python -m tools.write_release`` after a change of the version or the address."""
    stale = [str(file) for file, content in write_release.update_files(ROOT) if file.read_text() != content]
    assert stale == []
    assert metadata.version("detectime") == detectime.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == detectime.__version__


def test_with_an_address_the_badge_the_notebooks_and_the_citation_have_it(clone: Path) -> None:
    files = write_files(clone, "1.2.3", ADDRESS)
    wheel = "detectime-1.2.3-py3-none-any.whl"
    packages = find_packages(files)
    assert set(packages) == {f"notebooks/{path.name}" for path in paths.NOTEBOOKS.glob("*.ipynb")}
    assert set(packages.values()) == {f"{ADDRESS}/releases/download/v1.2.3/{wheel}"}
    assert '__version__ = "1.2.3"\n' in files["detectime/__init__.py"]
    citation = yaml.safe_load(files["CITATION.cff"])
    assert (citation["version"], citation["repository-code"]) == ("1.2.3", ADDRESS)
    notebook = f"somebody/hands/blob/v1.2.3/notebooks/{paths.DATA_LOADER}"
    badge = f"](https://colab.research.google.com/github/{notebook}) <!-- Colab -->"
    for name in ("README.md", "docs/notebooks.md"):
        assert files[name].count(badge) == files[name].count("colab-badge.svg") == 1
        assert files[name].count(f"install dist/{wheel}") + files[name].count(f"install 'dist/{wheel}[lab]'") > 0
    assert len(files["README.md"].split()) <= 900


def test_an_address_that_changes_or_goes_leaves_nothing_behind(clone: Path) -> None:
    before = write_files(clone, detectime.__version__, None)
    first = write_files(clone, "1.2.3", ADDRESS)
    assert write_files(clone, "1.2.3", f"{ADDRESS}/") == first
    moved = write_files(clone, "1.2.3", "https://github.com/else/where")
    assert ADDRESS not in "".join(moved.values())
    elsewhere = write_files(clone, "1.2.3", "https://code.example/where")
    assert "colab-badge" not in "".join(elsewhere.values())
    assert write_files(clone, detectime.__version__, None) == before


def test_with_an_address_the_site_names_it_and_its_own(clone: Path) -> None:
    before = write_files(clone, "1.2.3", None)["mkdocs.yml"]
    keys = f"site_url: https://somebody.github.io/hands/\nrepo_url: {ADDRESS}\n"
    assert write_files(clone, "1.2.3", ADDRESS)["mkdocs.yml"].replace(keys, "") == before
    site = write_files(clone, "1.2.3", "https://code.example/where")["mkdocs.yml"]
    assert site.replace("repo_url: https://code.example/where\n", "") == before != site
    assert write_files(clone, "1.2.3", None)["mkdocs.yml"] == before


def test_the_citation_has_the_day_of_a_release_alone(clone: Path) -> None:
    file = clone / "CHANGELOG.md"
    changelog = file.read_text()
    file.write_text(changelog.replace("## [", "## [1.2.3] – 2031-02-03\n\n## [", 1))
    assert "version: 1.2.3\ndate-released: 2031-02-03\nlicense" in write_files(clone, "1.2.3", None)["CITATION.cff"]
    file.write_text(changelog.replace("## [", "## [1.2.4] – unreleased\n\n## [", 1))
    assert "version: 1.2.4\nlicense" in write_files(clone, "1.2.4", None)["CITATION.cff"]


# -- what hosts and registries read


def test_the_citation_says_what_the_project_says() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])
    assert citation["abstract"] == project["description"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert "the detectime authors" in (ROOT / "LICENSE").read_text()
    assert set(citation["keywords"]) <= set(project["keywords"])


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.yml") if path.name != "config.yml"))
def test_issue_templates_are_forms(name: str) -> None:
    form = yaml.safe_load((TEMPLATES / name).read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for part in form["body"]:
        assert part["type"] in ("markdown", "input", "textarea", "dropdown")
        assert part["attributes"]["value" if part["type"] == "markdown" else "label"]
    commands = re.findall(r"`detectime (\w+)", (TEMPLATES / name).read_text())
    listed = build_parser().format_help()
    assert [command for command in commands if f"    {command} " not in listed] == []
