"""Runs as they are shown to people, folded from the records of the log."""
