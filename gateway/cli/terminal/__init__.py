"""The output of the command line: documents, tables, pictures and log lines."""
