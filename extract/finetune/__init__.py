"""Adapting an encoder to a catalogue: pictures and texts of one item are drawn together."""
