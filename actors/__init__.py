"""Who acts: partitions, workers and the engine that wires them."""
