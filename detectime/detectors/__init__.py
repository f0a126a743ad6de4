"""Face and hand detectors.

`contract` defines what a detector is, `registry` lists the built-in ones and selects those of a run, `outside` loads
detectors of other packages. Each built-in detector has a module of its own.
"""
