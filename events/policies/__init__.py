"""Policies of a step: when it is tried again, and when its circuit breaker opens, as pure tables."""
