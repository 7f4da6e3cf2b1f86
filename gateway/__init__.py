"""The gateway: webhooks, the HTTP API, the command line and the demo."""
