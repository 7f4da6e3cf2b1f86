"""The reducer: inputs in, records and commands out."""
