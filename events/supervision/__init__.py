"""Supervision as pure decisions: which child is restarted when a process ends, and when a failure escalates."""
