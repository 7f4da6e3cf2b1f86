"""Pipelines as they are declared: steps, signatures, the graph, and the checks of it."""
