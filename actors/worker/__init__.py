"""What runs a step's code: the worker process, its executors, and its retry decisions."""
