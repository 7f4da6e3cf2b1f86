"""The ingest of events: webhooks and POST /events, verified, validated and admitted."""
