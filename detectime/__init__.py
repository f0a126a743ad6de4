"""Forms a training set for gesture classification from labelled video frames.

The way of a frame, each line callable alone::

    table = frames.select(frames.read(labels_csv, source, config.labels), classes, limit)
    detections = run.detect(table, source, config, output)
    samples = pairing.pair(table, detections, config.pairing)
    hands_json.write(samples, path)
"""

from detectime import library_hooks

__version__ = "0.2.0"

# The one side effect of this import: see there.
library_hooks.install()
