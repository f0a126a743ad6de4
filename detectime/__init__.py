"""Forms a training set for gesture classification from labelled video frames.

From labels to samples::

    table = frame_table.select_frames(frame_table.read_labels(config, source), classes, limit)
    run.detect_frames(table, source, config, output)
    samples = outcomes.pair_run(runs.open_run(output))
"""

import logging

from detectime.detectors import face_detection_patch

__version__ = "0.3.0"

# What listens to the log is the caller's to say; without this Python would write warnings to stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# The one side effect of this import: see there.
face_detection_patch.install_patch()
