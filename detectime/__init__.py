"""Forms a training set for gesture classification from labelled video frames.

The way of a frame, each line callable alone::

    table = frames.select(frames.read(labels_csv, source, config.labels), classes, limit)
    detections = run.detect(table, source, config, output)
    samples = pairing.pair(table, detections, config.pairing)
    hands_json.write(samples, path)
"""

__version__ = "0.1.0"
