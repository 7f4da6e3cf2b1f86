"""The HTTP API: the application, its routes and the server."""
