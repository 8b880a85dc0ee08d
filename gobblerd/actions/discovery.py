"""Finding the actions: every module of this package is imported, every `Action` with a name counts.

Nothing else lists them, so that a new action is one new module.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from gobblerd import actions
from gobblerd.actions.action import Action


def discover() -> Mapping[str, type[Action]]:
    """Return all actions by name."""
    for module in pkgutil.iter_modules(actions.__path__):
        importlib.import_module(f"{actions.__name__}.{module.name}")
    return {action.name: action for action in sorted(_named(Action), key=lambda action: action.name)}


def _named(base: type[Action]) -> Iterator[type[Action]]:
    for action in base.__subclasses__():
        if "name" in vars(action) and action.__module__.startswith(f"{actions.__name__}."):
            yield action
        yield from _named(action)
