"""The laws of the simulator: what must hold in every history."""
