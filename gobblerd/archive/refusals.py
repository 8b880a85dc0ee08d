"""Why an archive, or a member of it, is not taken.

Both kinds are mistakes of whoever made or carried the archive, never of the daemon (400); what is merely too
much is `Exceeded` (413). Each names the member at fault, or the last one that was whole.
"""

from gobblerd.domain.errors import Wrong


class Damaged(Wrong):
    """The archive's bytes are not what its format says they must be: damaged, cut off or added to."""


class Unsafe(Wrong):
    """A member that is never extracted, whatever its bytes."""


def unsafe(member: str, flaw: str) -> Unsafe:
    """Return the refusal of a member; `flaw` is our own text and says what is wrong with it."""
    return Unsafe(f"the archive's member {{member}} is refused: {flaw}", member=member)
