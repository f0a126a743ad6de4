"""Labels of every kind, read into one frame table: see `frame_table.read_labels`."""
