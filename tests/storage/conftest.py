"""Fixtures for tests of what has a fast and a plain way."""

import pytest

from gobblerd.storage import native

BOTH = ["native", "plain"]


@pytest.fixture(params=BOTH)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the C extension, and without it."""
    way = str(request.param)
    if way == "plain":
        monkeypatch.setattr(native, "NATIVE", None)
        monkeypatch.setattr(native, "SINGLE", None)
    elif native.NATIVE is None or native.SINGLE is None:
        pytest.skip("the C extension was not built (no compiler?): only the plain way is tested")
    return way
