# What _sums.c offers; sums.py says when it is used.
from collections.abc import Sequence

def count(paths: Sequence[str], /) -> list[tuple[tuple[int, int, int, int], int] | None]: ...
