"""Where the REST API listens, and what that is called."""

import socket

import pytest

from gobblerd.service.web_process import url_of

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", f"http://{HERE}:80/api"),
        ("::", f"http://{HERE}:80/api"),
        ("127.0.0.1", "http://127.0.0.1:80/api"),
        ("fd00::1", "http://[fd00::1]:80/api"),
        ("node7.cluster", "http://node7.cluster:80/api"),
    ],
)
def test_a_url_that_clients_can_use(host: str, url: str) -> None:
    """Of every address this machine's name is shown; an address of IPv6 stands in brackets."""
    assert url_of(host, 80, "/api") == url
