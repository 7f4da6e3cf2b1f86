"""The same engine in one process, for tests."""
