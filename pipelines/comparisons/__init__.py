"""Comparisons: a grid of runs, and what may be concluded from them."""
