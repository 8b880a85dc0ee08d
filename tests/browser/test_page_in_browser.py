"""The page in a real Chromium: from project to file, a request that appears, keyboard, phone, dark and light."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.conftest import OpenBrowser
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from support.daemon import RunningDaemon, StartDaemon, eventually

VIEWS = ("projects", "usage", "review", "activity", "schedules")


@pytest.fixture(scope="module")
def served(start_module_daemon: StartDaemon) -> Iterator[RunningDaemon]:
    """A daemon with some projects, a link, a version on probation, and a project without anything."""
    daemon = start_module_daemon(settings={"quota_enforced": True})
    for n in range(3):
        daemon.done("create_project", {"project": f"project {n}"})
        daemon.upload(
            f"project {n}/data/1", {"sub dir/\u00e9 1.txt": b"x" * (n + 1) * 1000, "a.txt": b"hello"}
        )
    daemon.upload("project 0/data/2", {"b.txt": b"hello"}, on_probation=True)
    daemon.done("create_project", {"project": "a project with a rather long name " + "x" * 80})
    return daemon


def url(daemon: RunningDaemon, query: str = "") -> str:
    return f"http://127.0.0.1:{daemon.port}/{query}"


def follow(browser: WebDriver, text: str) -> None:
    """Click on a link by its text, and wait until the next page is there."""
    old = browser.current_url
    browser.find_element(By.LINK_TEXT, text).click()
    eventually(lambda: browser.current_url != old and shown(browser), f"the page behind {text}")


def shown(browser: WebDriver) -> str:
    """Return the text of the page; nothing while another page takes its place."""
    with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
        return browser.find_element(By.TAG_NAME, "body").text
    return ""


def assert_no_errors(browser: WebDriver) -> None:
    assert browser.get_log("browser") == []


def test_from_project_to_file(served: RunningDaemon, open_browser: OpenBrowser) -> None:
    """Five clicks lead from the list of projects to the bytes of a file; nothing is logged as an error."""
    browser = open_browser()
    browser.get(url(served))
    for text in ("project 1", "data", "1", "sub dir/"):
        follow(browser, text)
    assert "project 1/data/1/sub dir" in browser.title
    assert_no_errors(browser)
    follow(browser, "\u00e9 1.txt")
    assert shown(browser) == "x" * 2000


def test_a_request_appears_by_itself(served: RunningDaemon, open_browser: OpenBrowser) -> None:
    """Dropped while the page is open, and shown without a click, with its outcome and reason."""
    browser = open_browser()
    browser.get(url(served, "?view=activity"))
    name = served.drop("create_project", {"project": "."})
    eventually(lambda: name in shown(browser), "the request to appear")
    assert 'invalid project name "."' in shown(browser)
    assert_no_errors(browser)


def test_a_daemon_that_is_gone_is_said_to_be_gone(
    start_daemon: StartDaemon, open_browser: OpenBrowser
) -> None:
    daemon = start_daemon()
    browser = open_browser()
    browser.get(url(daemon, "?view=activity"))
    assert "serving" in shown(browser)
    assert daemon.stop() == 0
    eventually(lambda: "does not answer" in shown(browser), "the page to say so")
    daemon.restart()
    eventually(lambda: "does not answer" not in shown(browser), "the page to follow again")


def test_the_search_finds_a_project(served: RunningDaemon, open_browser: OpenBrowser) -> None:
    browser = open_browser()
    browser.get(url(served))
    field = browser.find_element(By.ID, "q")
    field.send_keys("JECT 2", Keys.ENTER)
    eventually(lambda: "1 project whose name contains" in shown(browser), "what was found")
    follow(browser, "project 2")
    assert "3.0" in shown(browser), "3,005 bytes are stored"


def test_it_works_by_keyboard(served: RunningDaemon, open_browser: OpenBrowser) -> None:
    """The first Tab offers to skip the navigation, and every link shows where the focus is."""
    browser = open_browser()
    browser.get(url(served))
    focused = press(browser, Keys.TAB)
    assert focused.text == "Skip to content"
    assert focused.rect["x"] >= 0, "what has the focus must be on the screen"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    for _ in range(3):  # the field, the button, the first project
        focused = press(browser, Keys.TAB)
    assert focused.tag_name == "a"
    assert focused.value_of_css_property("outline-style") == "solid"
    focused.send_keys(Keys.ENTER)
    eventually(lambda: "path=" in browser.current_url, "the project")


def press(browser: WebDriver, key: str) -> WebElement:
    browser.switch_to.active_element.send_keys(key)
    return browser.switch_to.active_element


@pytest.mark.parametrize("view", [*(f"?view={view}" for view in VIEWS), "?path=project 0/data/2"])
def test_nothing_is_wider_than_a_phone(served: RunningDaemon, open_browser: OpenBrowser, view: str) -> None:
    """At 360 pixels the page does not scroll sideways; wide tables scroll in a box of their own."""
    browser = open_browser(width=360, height=640)
    browser.get(url(served, view))
    width: Any = browser.execute_script("return document.documentElement.scrollWidth")  # type: ignore[no-untyped-call]
    assert width <= 360
    assert_no_errors(browser)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out_in_dark_and_light(
    served: RunningDaemon, open_browser: OpenBrowser, scheme: str
) -> None:
    """Every visible text has a contrast of 4.5 or more to what is behind it (WCAG 2.2, AA)."""
    browser = open_browser(dark=scheme == "dark")
    for view in VIEWS:
        browser.get(url(served, f"?view={view}"))
        poor = browser.execute_script(CONTRAST)  # type: ignore[no-untyped-call]
        assert poor == []
    ground = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert ("255, 255, 255" in ground) is (scheme == "light")


CONTRAST = """
const luminance = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = luminance(getComputedStyle(document.body).backgroundColor);
return [...document.querySelectorAll("body *")]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && !["SCRIPT", "STYLE", "OPTION"].includes(e.tagName))
  .map((e) => [e.outerHTML.slice(0, 80), luminance(getComputedStyle(e).color)])
  .map(([html, l]) => [html, (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)])
  .filter(([, ratio]) => ratio < 4.5);
"""


@pytest.mark.long
def test_screenshots(served: RunningDaemon, open_browser: OpenBrowser, tmp_path: Path) -> None:
    """The pictures of docs/page.md, into the directory that GOBBLERD_SCREENSHOTS names."""
    where = os.environ.get("GOBBLERD_SCREENSHOTS", str(tmp_path))
    for view in VIEWS:
        browser = open_browser(dark=view == "usage")
        browser.get(url(served, f"?view={view}"))
        assert browser.save_screenshot(os.path.join(where, f"page-{view}.png"))
