"""The command `ensue demo`: webhooks arrive, all processes are killed, and nothing is lost."""
