"""`ensue demo`: webhooks come in, everything is killed, and nothing is lost."""
