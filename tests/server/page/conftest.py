"""A browser, and a server whose documents try to be more than text."""

import io
import os
import shutil

import pytest

from paged import HIT, MARKUP
from served import DOCUMENTS, running

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pdf(*lines):
    """One page with these lines."""
    canvas = pytest.importorskip("reportlab.pdfgen.canvas", reason="needs reportlab")
    made = io.BytesIO()
    page = canvas.Canvas(made, invariant=True)
    for n, line in enumerate(lines):
        page.drawString(72, 720 - 20 * n, line)
    page.save()
    return made.getvalue()


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install)")
    found = os.environ.get("FIDKIT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium: install it, or name it in FIDKIT_CHROMIUM")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def documents(tmp_path_factory):
    """What is served here: texts, a page of a PDF, a file that can't be read, and markup everywhere."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text)
    for n in range(8):
        (folder / f"garden-{n}.txt").write_text(f"Garden {n} of the town has {n + 3} pear trees and a gate.")
    (folder / f'<img src=x onerror="{HIT}">.md').write_text(
        f"# {MARKUP}\n\nThe cellar of the <b>Anchor</b> {MARKUP} is kept by Nora Doyle. {MARKUP}"
    )
    (folder / "lease.pdf").write_bytes(
        pdf("Lease of the boathouse", "The boathouse was leased to Maeve Connolly in 1921.")
    )
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    (folder / "empty.txt").touch()
    return folder


@pytest.fixture(scope="session")
def served(documents):
    """A client of a server with two readers."""
    with running(documents, readers={"pocket": "pocket", "second": "pocket"}) as client:
        yield client


@pytest.fixture
def opened(browser, served):
    """Opens the page; at the end, nothing may have run that was no part of it, nor gone wrong."""
    contexts, wrong = [], []

    def go(path="/", *, base=None, complains=False, **settings):
        context = browser.new_context(
            **{"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **settings}
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        if not complains:
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(str(base or served.base_url).rstrip("/") + path)
        return page

    yield go
    for context in contexts:
        for page in context.pages:
            wrong += ["markup ran"] if page.evaluate("window.hit") else []
        context.close()
    assert wrong == []
