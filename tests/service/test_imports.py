"""What is left out while a daemon is imported, and that everything is as before afterwards."""

import json
import subprocess
import sys

LOOK = """
import gc, json, ssl, sys
find = ssl.SSLContext.set_default_verify_paths
from gobblerd.service.imports import for_http
with for_http():
    import gobblerd.service.web.main
from aiohttp import connector
found = {
    "loaded": sorted(name for name in sys.modules if name.partition(".")[0] in {"rich", "apscheduler", "jinja2"}),
    "trusted": connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"],
    "verifies": connector._SSL_CONTEXT_VERIFIED.verify_mode == ssl.CERT_REQUIRED,
    "restored": ssl.SSLContext.set_default_verify_paths is find,
    "collecting": gc.isenabled(),
    "frozen": gc.get_freeze_count() > 0,
}
import rich.traceback
print(json.dumps(found))
"""


def test_a_daemon_is_imported_without_what_it_never_uses() -> None:
    """No certificates, no rich; what comes later has both, and garbage is collected again."""
    done = subprocess.run([sys.executable, "-c", LOOK], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == {
        "loaded": [],
        "trusted": 0,
        "verifies": True,
        "restored": True,
        "collecting": True,
        "frozen": True,
    }


def test_a_daemon_does_not_wait_for_what_http_needs() -> None:
    """The web process imports it meanwhile."""
    look = (
        "import sys; from gobblerd.service.imports import for_a_daemon\n"
        "with for_a_daemon(): import gobblerd.cli.serve, gobblerd.service.daemon\n"
        "print(sorted({'aiohttp', 'jinja2', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
