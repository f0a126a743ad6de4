"""Detectors of faces and hands: see `contract` for what one is, `registry` for how one is chosen."""
