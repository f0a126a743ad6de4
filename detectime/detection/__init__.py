"""Detection over a frame table: see `run.detect_frames`."""
