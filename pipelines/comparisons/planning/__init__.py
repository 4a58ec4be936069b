"""A grid as it is asked for: its settings, its cells, or finished runs by name."""
