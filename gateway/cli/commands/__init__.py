"""The commands: one module for each group, without its option declarations."""
