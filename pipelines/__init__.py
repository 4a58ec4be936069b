"""The commands: each opens its inputs, calls the stages, writes and prints."""
