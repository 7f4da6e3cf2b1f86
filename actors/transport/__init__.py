"""Lanes: how a partition and its workers exchange messages."""
