"""Widgets for notebooks: `Explorer` shows the frames of a run, `Review` asks a person about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectime.widgets.explorer import Explorer as Explorer
    from detectime.widgets.review import Review as Review

__all__ = ["Explorer", "Review"]


def __getattr__(name: str) -> object:
    """Import a widget when it is asked for: importing `detectime` needs no anywidget."""
    if name == "Explorer":
        from detectime.widgets.explorer import Explorer

        return Explorer
    if name == "Review":
        from detectime.widgets.review import Review

        return Review
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
