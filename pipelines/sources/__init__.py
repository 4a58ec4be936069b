"""Where data sets come from: one module per kind of source."""
