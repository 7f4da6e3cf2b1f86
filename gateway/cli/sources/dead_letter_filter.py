"""The filter of dead letters as the command line passes it on."""

from collections.abc import Mapping

__all__ = ["DeadLetterFilter"]

DeadLetterFilter = Mapping[str, str]
"""The parameters of GET /dead that were given, by name."""
