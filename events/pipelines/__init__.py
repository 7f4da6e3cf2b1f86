"""Pipelines as they are declared: steps, signatures, the graph, its checks, and the plan that the loop follows."""
