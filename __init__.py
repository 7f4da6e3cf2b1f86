"""ensue: a reactive pipeline of typed events whose steps are Ray actors, on a durable log."""

from importlib.metadata import version as _version

__version__ = _version("ensue")
