"""Where the files of the project lie, in the layout of 2021: everything hangs below ``ROOT_DIR``, the clone itself."""

from __future__ import annotations

from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parent.parent

INPUT_DATA = ROOT_DIR / "data" / "INPUT_DATA"
TRAIN_DATA = INPUT_DATA / "TRAIN_DATA"
"""The frames, ``<video_name>/<frame>.jpg``."""
ZIP = INPUT_DATA / "ZIP"
"""Downloaded archives."""
JSON = INPUT_DATA / "JSON"
"""What a run writes: ``hands.json``, ``run.json`` and the tables."""
TRAIN_CSV = INPUT_DATA / "train.csv"
"""The labels: one row per frame."""
SAMPLE = ROOT_DIR / "data" / "sample"
"""The rendered sample that ``make demo`` runs on."""
MODEL = ROOT_DIR / "model"
"""Weights that the user brings."""
CONFIG = ROOT_DIR / "config.yml"
"""The configuration that is used where none is named."""
