"""Where events come in: webhooks, CloudEvents and POST /events, verified and admitted."""
