"""`python -m gobblerd.cli.gobbler` is `gobbler`."""

from gobblerd.cli.gobbler.main import main

main()
