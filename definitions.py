"""The folders of the project under their names of 2021; their home is `detectime.paths`."""

from detectime.paths import CONFIG, INPUT_DATA, JSON, MODEL, ROOT_DIR, SAMPLE, TRAIN_CSV, TRAIN_DATA, ZIP

__all__ = ["CONFIG", "INPUT_DATA", "JSON", "MODEL", "ROOT_DIR", "SAMPLE", "TRAIN_CSV", "TRAIN_DATA", "ZIP"]
