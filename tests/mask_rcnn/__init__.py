"""Tests of the Mask R-CNN."""
