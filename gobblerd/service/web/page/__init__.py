"""The browser page: a read-only view of the registry and of what the daemon does, made on the server."""
