"""Readers of labels: each returns a frame table, see `frame_table.read_labels`."""
