"""The survey is made while somebody looks, once at a time, and a failure leaves the one before it."""

import threading

from support.daemon import eventually

from gobblerd.registry.survey import ProjectFacts, Survey
from gobblerd.service.web.page.surveyor import Surveyor


def survey_of(used: int) -> Survey:
    return Survey((ProjectFacts("p", used, None, 0, 0),), ())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_reader_waits_for_the_first_survey() -> None:
    surveyor = Surveyor(lambda: survey_of(1))
    found = eventually(surveyor.latest, "the first survey")
    assert found.survey == survey_of(1)


def test_an_old_survey_is_shown_while_the_next_is_made() -> None:
    """Readers never wait for a second one, and however many there are, it is made once."""
    clock, go, made = Clock(), threading.Event(), []

    def take() -> Survey:
        made.append(1)
        if len(made) > 1:
            go.wait(60)
        return survey_of(len(made))

    surveyor = Surveyor(take, clock)
    eventually(surveyor.latest, "the first survey")
    clock.now = 1000.0
    for _ in range(5):
        found = surveyor.latest()
        assert found is not None
        assert (found.survey, found.age) == (survey_of(1), 1000.0)
    go.set()
    eventually(lambda: (now := surveyor.latest()) and now.survey == survey_of(2), "the second survey")
    assert len(made) == 2


def test_a_survey_that_fails_is_tried_again_later() -> None:
    clock = Clock()
    answers = [survey_of(1), OSError("the storage is gone"), survey_of(3)]

    def take() -> Survey:
        found = answers.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    surveyor = Surveyor(take, clock)
    eventually(surveyor.latest, "the first survey")
    for expected in (survey_of(1), survey_of(3)):
        clock.now += 1000.0
        surveyor.latest()
        eventually(lambda: surveyor._thread is None, "the survey to end")
        found = surveyor.latest()
        assert found is not None
        assert found.survey == expected
