"""What a step declares about failures: retries and circuit breakers, as pure tables."""
