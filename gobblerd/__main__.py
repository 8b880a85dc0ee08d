"""`python -m gobblerd` is the command line."""

from gobblerd.cli.main import main

main()
