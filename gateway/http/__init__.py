"""Plain ASGI and HTTP: bodies, limits, deadlines, problems and the listening socket."""
