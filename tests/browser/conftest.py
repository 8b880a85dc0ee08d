"""A real Chromium, driven from outside; each test gets a fresh profile."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="NOT TESTED: selenium is not installed")

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

QUIET = ("background-networking", "component-update", "sync", "gpu", "quic", "extensions", "dev-shm-usage")
OpenBrowser = Callable[..., webdriver.Chrome]


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[OpenBrowser]:
    """Return a function that starts a browser of some width and colour scheme."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("NOT TESTED: chromium and chromedriver are not installed")
    opened: list[webdriver.Chrome] = []

    def start(width: int = 1200, height: int = 900, *, dark: bool = False) -> webdriver.Chrome:
        options = Options()
        options.binary_location = chromium
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        profile = tmp_path / f"profile-{len(opened)}"
        for argument in (
            "headless=new",
            "no-sandbox",
            "no-first-run",
            "hide-scrollbars",
            f"user-data-dir={profile}",
            *(f"disable-{each}" for each in QUIET),
        ):
            options.add_argument(f"--{argument}")
        browser = webdriver.Chrome(options, Service(driver, log_output=os.devnull))
        opened.append(browser)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        browser.set_page_load_timeout(120)
        return browser

    yield start
    for browser in opened:
        browser.quit()
