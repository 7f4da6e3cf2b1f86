"""What the HTTP API answers, as pydantic models."""
