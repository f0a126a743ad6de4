"""Folders and files of the project, in the layout of 2021, relative to ``ROOT_DIR``, the clone."""

from __future__ import annotations

from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parent.parent

INPUT_DATA = ROOT_DIR / "data" / "INPUT_DATA"
TRAIN_DATA = INPUT_DATA / "TRAIN_DATA"
"""The frames, ``<video_name>/<frame>.jpg``."""
ZIP = INPUT_DATA / "ZIP"
"""Downloaded archives."""
JSON = INPUT_DATA / "JSON"
"""Output of a run: ``hands.json``, ``run.json`` and the tables."""
TRAIN_CSV = INPUT_DATA / "train.csv"
"""The labels: one row per frame."""
SAMPLE = ROOT_DIR / "data" / "sample"
"""The rendered sample that ``make demo`` runs on."""
MODEL = ROOT_DIR / "model"
"""User-supplied weights."""
CONFIG = ROOT_DIR / "config.yml"
"""The default configuration file."""
