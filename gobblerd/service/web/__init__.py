"""The web process: HTTP in an interpreter of its own, beside the daemon's (docs/decisions.md)."""
