"""The search for settings on validation, and the choice that is frozen before a cell is trained."""
