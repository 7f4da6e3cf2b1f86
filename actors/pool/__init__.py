"""The engine's end of supervision: the worker pool and its clients of the supervisors."""
