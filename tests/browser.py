"""A real Chromium for tests: one a module, a fresh window a test, and all that it complains about kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright. Absent: the test skips, in CI it fails."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        message = "no Chromium on PATH: apt-get install --no-install-recommends chromium fonts-dejavu-core"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


class Window:
    """A page in a context of its own. `complaints` are errors of scripts and of the content security policy."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("dialog", self._dismiss)

    def _note(self, message: Any) -> None:
        # A page that is answered with 4xx is reported as a resource that failed to load, which is no fault of it.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def sign_in(self, token: str) -> Any:
        """The page after signing in."""
        self.page.goto("/console")
        self.page.get_by_label("Key").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", level=1, name="Data export").wait_for()
        return self.page


@contextmanager
def window(browser: Any, url: str, **options: Any) -> Iterator[Window]:
    """A window that must be closed without complaints."""
    found = Window(browser, url, **options)
    try:
        yield found
        assert found.complaints == []
    finally:
        found.context.close()
