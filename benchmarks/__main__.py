"""`python -m benchmarks`: see command.py."""

import signal
import sys

from benchmarks.command import main

# So that whoever ends it finds no server running and nothing mounted.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmarks: ended by SIGTERM"))
sys.exit(main())
