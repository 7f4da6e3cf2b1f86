"""What a caller holds: the API of an engine, runs, outcomes, and the operators' calls."""
