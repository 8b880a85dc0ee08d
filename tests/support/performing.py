"""Performing a claim as a worker does that has no other to answer with it."""

from gobblerd.domain.messages import Claim
from gobblerd.service.dispatch import Dispatcher


def run(dispatcher: Dispatcher, claim: Claim) -> None:
    """Perform a claim and answer it."""
    performed = dispatcher.perform(claim)
    if performed is not None:
        dispatcher.answer([performed])
