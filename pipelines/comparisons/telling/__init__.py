"""A comparison as tables and as a document for people."""
