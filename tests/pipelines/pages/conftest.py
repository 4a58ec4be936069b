import os
import shutil
from pathlib import Path

import pytest
from support.pages import page
from support.report_shop import write_compared

from pipelines.pages.writing import write_page
from pipelines.progress import Reporter

PROJECT = Path(__file__).parents[3]


def missing(what):
    """Skip, except where nothing may be skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; with CI set this is an error")
    pytest.skip(what)


# Of a module, not of the session: while it lives, no other test of the process can run asyncio.
@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install playwright)")
    program = os.environ.get("MMREC_CHROMIUM") or shutil.which("chromium")
    if not program:
        missing("no chromium found (apt install chromium, or name one in MMREC_CHROMIUM)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core."""
    path = Path(os.environ.get("MMREC_AXE") or PROJECT / "node_modules/axe-core/axe.min.js")
    if not path.is_file():
        missing(f"no axe-core at {path} (npm ci, or name it in MMREC_AXE)")
    return path.read_text()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The file of a page that has everything."""
    path = tmp_path_factory.mktemp("whole") / "page.html"
    write_page(path, page())
    return path


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """A workspace with finished runs, and the comparison of them; nobody writes into it."""
    root = tmp_path_factory.mktemp("compared")
    return root, write_compared(root)


@pytest.fixture
def saying(monkeypatch):
    """The lines that are told to the user."""
    lines = []
    monkeypatch.setattr(Reporter, "say", lambda self, line: lines.append(line))
    return lines


@pytest.fixture
def visit(browser, whole, tmp_path):
    """Write a page and open it; whatever it logs, throws or asks for fails the test."""
    contexts, heard = [], []

    def call(shown=None, width=1400, theme="light", file=None, at=""):
        path = file or whole
        if shown is not None:
            path = tmp_path / "page.html"
            write_page(path, shown)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(10_000)
        address = path.as_uri()
        tab.on("console", lambda message: heard.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: heard.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (heard.append("a dialog"), dialog.dismiss()))
        tab.on(
            "request",
            lambda request: (
                None
                if request.url.split("#")[0] == address and request.is_navigation_request()
                else heard.append(f"request: {request.url[:100]}")
            ),
        )
        tab.goto(address + at)
        return tab

    yield call
    for context in contexts:
        context.close()
    assert heard == []
