"""Measurements: each prints a table and never asserts a time."""
