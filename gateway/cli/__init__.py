"""The command line: `ensue`, its commands and their options."""
