"""The user-writable side: who dropped what, whose turn it is, and what was answered."""
