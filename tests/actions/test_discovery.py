"""Discovery finds every action, and each has what an action must have."""

import pkgutil
from pathlib import Path

import pytest

from gobblerd import actions
from gobblerd.actions.action import Spoofable
from gobblerd.actions.discovery import discover

FOUND = discover()
SPOOFABLE = {"upload", "set_permissions", "approve_probation", "reject_probation"}
ANYONES = SPOOFABLE | {"export_version", "health_check"}
MACHINERY = {"action", "discovery"}
REQUIRED = {
    "create_project",
    "upload",
    "set_permissions",
    "approve_probation",
    "reject_probation",
    "refresh_usage",
    "refresh_latest",
    "delete_project",
    "delete_asset",
    "delete_version",
    "set_quota",
    "health_check",
}


def test_all_are_found() -> None:
    """By their names, in order, each once."""
    assert set(FOUND) >= REQUIRED
    assert list(FOUND) == sorted(FOUND)
    assert {kind.name: kind for kind in FOUND.values()} == dict(FOUND)
    assert discover() == FOUND


@pytest.mark.parametrize("name", sorted(FOUND))
def test_each_is_whole(name: str) -> None:
    """A docstring, `perform`, spoofing and the administrators' rule as spec/requests.md has them."""
    kind = FOUND[name]
    assert kind.__doc__
    assert kind.model_config["strict"]
    assert issubclass(kind, Spoofable) == (name in SPOOFABLE)
    assert kind.administrators_only == (name not in ANYONES)
    assert kind.perform.__doc__
    assert name.replace("_", "").isalpha()


def test_every_module_of_actions_has_a_twin() -> None:
    """A new action comes with its tests."""
    modules = {module.name for module in pkgutil.iter_modules(actions.__path__)} - MACHINERY
    twins = {
        path.name.removeprefix("test_").removesuffix(".py")
        for path in Path(__file__).parent.glob("test_*.py")
    }
    assert modules <= twins


@pytest.mark.parametrize("name", sorted(FOUND))
def test_every_action_has_a_row_in_the_docs(name: str) -> None:
    """With each of its fields, marked `?` where it is optional."""
    page = (Path(__file__).parents[2] / "docs" / "actions.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    for field, info in FOUND[name].model_fields.items():
        assert f"`{field}`" in rows[0], field
        optional = f"`{field}`?" in rows[0]
        assert optional != info.is_required(), field
