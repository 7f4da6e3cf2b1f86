"""The way in and out: webhooks, the HTTP API and the command line."""
