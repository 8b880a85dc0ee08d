"""`health_check`: proves that a dropped file is answered; its content is ignored."""

from gobblerd.actions.action import Action, Context
from gobblerd.domain.messages import Outcome


class HealthCheck(Action):
    """Anyone may ask; the answer is that there is one."""

    name = "health_check"
    reads_content = False

    def perform(self, context: Context) -> Outcome:  # noqa: ARG002  # it needs nothing
        """Succeed."""
        return Outcome()
