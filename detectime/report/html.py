"""Conversion of an executed notebook to a single HTML file without external resources."""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import TagRemovePreprocessor

from detectime.errors import DocumentedError
from detectime.notes import shorten_text
from detectime.storage import store

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
body { margin: 0; background: #f6f7f9; color: #1d2733; font: 15px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 2rem auto; padding: 1.5rem 2.5rem; background: #fff; border-radius: 8px;
       box-shadow: 0 1px 4px rgb(0 0 0 / 12%); }
h1 { font-size: 1.8rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #e3e7ec; }
code, pre { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.4rem 0; }
code { background: #eef1f4; border-radius: 3px; padding: 0 0.25em; } pre code { background: none; padding: 0; }
img { max-width: 100%; height: auto; display: block; margin: 0.6rem 0; }
table { border-collapse: collapse; border: 0; margin: 0.8rem 0; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: 0.15rem 0.8rem; border: 0; border-bottom: 1px solid #e3e7ec; text-align: right;
         overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid #c6ced8; } tbody th { text-align: left; }
.anchor-link { display: none; }
"""


_NBFORMAT = 4
_MINOR_WITHOUT_IDS = 4  # 4.5 made cell ids mandatory; a report does not need them and some notebooks lack them
_REMEDY = f"accepted: a notebook (.ipynb) of nbformat {_NBFORMAT}, as Jupyter and papermill save it"


class ReportError(DocumentedError, ValueError):
    """A file that cannot be converted to a report; the message names the file, the fault and what is accepted."""


def write_report(notebook: str | Path, path: str | Path) -> None:
    """Write the text and figures of an executed notebook as HTML, without its code.

    Cells tagged ``not-in-report`` are omitted.

    Parameters
    ----------
    notebook
        An executed notebook of nbformat 4.
    path
        The HTML file.

    Raises
    ------
    ReportError
        If `notebook` cannot be read, or is not a notebook of nbformat 4.
    StoreError
        If the HTML file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("99 samples")])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "out.ipynb")
    ...     nbformat.write(notebook, path)
    ...     write_report(path, path.with_suffix(".html"))
    ...     "99 samples" in path.with_suffix(".html").read_text()
    True
    """
    content = _read_notebook(notebook)
    with _report_faults(notebook):
        # Other templates load MathJax, require.js and mermaid from the web.
        exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
        exporter.register_preprocessor(TagRemovePreprocessor(remove_cell_tags={"not-in-report"}), enabled=True)
        body, _ = exporter.from_notebook_node(content)
    page = _PAGE.format(title=html.escape(Path(notebook).stem), style=_STYLE, body=body)
    parent, name = store.open_parent_store(path)
    parent.put(name, page.encode())


def _read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Read and validate a notebook."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}; {_REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not JSON, so not a notebook ({error}); {_REMEDY}") from error
    version = content.get("nbformat") if isinstance(content, dict) else None
    if version != _NBFORMAT:
        fault = "JSON without `nbformat`, so not a notebook"
        if version is not None:
            fault = f"nbformat {shorten_text(str(version))} is not supported"
        raise ReportError(f"{path}: {fault}; {_REMEDY}")
    with _report_faults(path):
        notebook: nbformat.NotebookNode = nbformat.v4.reads(text)
        for cell in notebook.cells:
            cell.pop("id", None)
        notebook.nbformat_minor = _MINOR_WITHOUT_IDS
        nbformat.validate(notebook, relax_add_props=True)
    return notebook


@contextlib.contextmanager
def _report_faults(path: str | Path) -> Iterator[None]:
    """Raise whatever nbformat and nbconvert raise as a `ReportError`: each has many exception types of its own."""
    try:
        yield
    except Exception as error:
        message = shorten_text(str(getattr(error, "message", error)))
        raise ReportError(f"{path}: invalid notebook ({type(error).__name__}: {message}); {_REMEDY}") from error
