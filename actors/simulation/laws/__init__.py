"""The laws of a simulation: what must hold of every history."""
