"""Command line: ``python -m detectime.report NOTEBOOK HTML``."""

from __future__ import annotations

import argparse

from detectime.report.html import ReportError, write_report
from detectime.storage.store import StoreError


def main() -> None:
    """Write a report, or exit with status 1 and one line that states the reason."""
    parser = argparse.ArgumentParser(
        prog="python -m detectime.report", description="Convert an executed notebook to a single HTML file."
    )
    parser.add_argument("notebook", metavar="NOTEBOOK", help="a notebook executed by papermill or Jupyter")
    parser.add_argument("html", metavar="HTML", help="the file to write")
    arguments = parser.parse_args()
    try:
        write_report(arguments.notebook, arguments.html)
    except (ReportError, StoreError) as error:
        parser.exit(1, f"no report: {error}\n")


if __name__ == "__main__":
    main()
