"""To be opened with one sentence."""
