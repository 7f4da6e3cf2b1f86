"""The command line `ensue`: its commands, their options, and what it prints."""
