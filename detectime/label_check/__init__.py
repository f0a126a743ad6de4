"""The check of labels: whether the class of a sample is the gesture that its hand shows."""

from detectime.label_check.check import CONTRADICTED as CONTRADICTED
from detectime.label_check.check import check_labels as check_labels
from detectime.label_check.check import compare_scores as compare_scores
from detectime.label_check.check import match_classes as match_classes
from detectime.label_check.kept_scores import FILE_NAME as FILE_NAME
from detectime.label_check.network import GESTURES as GESTURES
from detectime.label_check.network import WEIGHTS as WEIGHTS
