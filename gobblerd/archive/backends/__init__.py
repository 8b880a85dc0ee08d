"""Places that keep releases, behind one protocol (`backend.py`); `choosing.py` finds the one for a host."""
