"""Losses of encoders: pictures against texts, labels against each other, hidden words."""
