"""Truth: annotated hands and faces of the frames of a run, from files of many formats or from decisions."""

from detectime.truth.contract import Truth, TruthError
from detectime.truth.formats import FORMATS
from detectime.truth.reading import extract_truth, read_reviewed, read_truth, read_truth_json

__all__ = ["FORMATS", "Truth", "TruthError", "extract_truth", "read_reviewed", "read_truth", "read_truth_json"]
