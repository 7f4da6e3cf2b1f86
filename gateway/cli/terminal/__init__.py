"""What the command line writes: documents, tables, pictures, log lines."""
