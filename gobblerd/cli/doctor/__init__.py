"""`gobblerd doctor`: tries a deployment before users do; `command.py` says in which order."""
