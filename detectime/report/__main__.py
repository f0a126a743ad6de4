"""Command line of 0.2: ``python -m detectime.report NOTEBOOK HTML``; today it is ``detectime report OUTPUT``."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from detectime.errors import DocumentedError
from detectime.report.report import write_report


def main() -> None:
    """Write the report of the run that an executed notebook made, or exit with status 1 and one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m detectime.report",
        description="Write the report of a run: `detectime report OUTPUT --to HTML` does the same.",
    )
    parser.add_argument("notebook", metavar="NOTEBOOK", help="a notebook executed by papermill, or the folder of a run")
    parser.add_argument("html", metavar="HTML", help="the file to write")
    arguments = parser.parse_args()
    try:
        write_report(_find_output(Path(arguments.notebook)), arguments.html)
    except DocumentedError as error:
        parser.exit(1, f"no report: {error}\n")


def _find_output(notebook: Path) -> str:
    """Return the folder of the run that a notebook made: that which papermill gave it, or its own."""
    if notebook.suffix != ".ipynb":
        return str(notebook)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        output = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]["parameters"]["output"]
        if isinstance(output, str):
            return output
    return str(notebook.parent)


if __name__ == "__main__":
    main()
