"""The only code that touches the registry."""
