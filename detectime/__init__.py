"""Forms a training set for gesture classification from labelled video frames.

The way of a frame, each line callable alone::

    table = frames.select(frames.of(config, source), classes, limit)
    run.detect(table, source, config, output)
    samples = outcomes.pair_run(runs.open_run(output))
"""

import logging

from detectime import library_hooks

__version__ = "0.3.0"

# What listens to the log is the caller's to say; without this Python would write warnings to stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# The one side effect of this import: see there.
library_hooks.install()
