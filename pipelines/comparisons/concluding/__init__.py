"""From contrasts between systems to an answer for each question."""
