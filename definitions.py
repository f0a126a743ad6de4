"""The folders of the project under their names of 2021. The package itself does not import this file."""

from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parent

CONFIG = ROOT_DIR / "config.yml"
MODEL = ROOT_DIR / "model"
"""User-supplied weights."""
INPUT_DATA = ROOT_DIR / "data" / "INPUT_DATA"
TRAIN_DATA = INPUT_DATA / "TRAIN_DATA"
"""The frames, ``<video_name>/<frame>.jpg``."""
TRAIN_CSV = INPUT_DATA / "train.csv"
"""The labels: one row per frame."""
ZIP = INPUT_DATA / "ZIP"
"""Downloaded archives."""
JSON = INPUT_DATA / "JSON"
"""Output of a run: ``hands.json``, ``run.json`` and the tables."""
