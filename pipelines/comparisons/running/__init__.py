"""Cells and searches done by several processes; what is finished is kept."""
