"""Files that are waited for, and when they are due."""

from gobblerd.staging.look import Hint, Unsettled
from gobblerd.staging.settle import Settling


def test_it_is_due_when_the_look_says_or_earlier() -> None:
    """Pauses grow to a second; the time a look gives is kept exactly."""
    settling = Settling()
    settling.put(Hint.CLOSED, Unsettled("a", 0.05), now=100.0)
    assert settling.until_next(100.0) == 0.05 or abs((settling.until_next(100.0) or 0) - 0.05) < 1e-9
    assert settling.due(100.04) == []
    (waiting,) = settling.due(100.06)
    pauses = []
    for _ in range(6):
        waiting = settling.put(Hint.CLOSED, Unsettled("a", 9.0), now=0.0, before=waiting)
        pauses.append(waiting.due)
        settling.remove("a")
    assert pauses == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_a_name_is_due_once() -> None:
    """Being put again replaces when it is due; being removed ends it."""
    settling = Settling()
    settling.put(Hint.CLOSED, Unsettled("a", 0.05), now=0.0)
    settling.put(Hint.RENAMED, Unsettled("a", 0.01), now=0.0)
    settling.put(Hint.CLOSED, Unsettled("b", 0.02), now=0.0)
    settling.remove("b")
    assert len(settling) == 1
    assert [waiting.hint for waiting in settling.due(1.0)] == [Hint.RENAMED]
    assert settling.due(1.0) == []
    assert settling.until_next(1.0) is None
    assert "a" not in settling
