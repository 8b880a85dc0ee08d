"""What users may ask for: one module per family of actions, found by discovery (`discovery.py`)."""
