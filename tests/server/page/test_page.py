"""The page in a browser: documents, markup, keys, access for everybody, the page of the API."""

import json
import os
from pathlib import Path

import pytest

from fidkit.server.guard import Access
from fidkit.server.keys import Keys, add
from paged import DONE, HIT, MARKUP, ask
from served import running

pytestmark = pytest.mark.browser
DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  for (const kind of ["dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    if (kind === "dragover") window.veiled = !document.getElementById("drop").hidden;
  }
}"""

KEPT = """() => {
  const [plain, kept] = [window.fetch, []];
  window.kept = kept;
  window.fetch = (path, options) => {
    if (options?.method === "DELETE") kept.push(options.keepalive === true);
    return plain(path, options);
  };
}"""


def wait_for_file(page, name, status):
    page.locator(".list.files li", has_text=name).filter(has_text=status).first.wait_for(timeout=30_000)


def test_documents_are_added_asked_and_removed(opened):
    page = opened()
    page.set_input_files(
        "#files",
        {"name": "lamp.txt", "mimeType": "text/plain", "buffer": b"The lamp of Inish was lit by Oisin Daly."},
    )
    wait_for_file(page, "lamp.txt", "ready")
    assert page.locator("#answer-text").inner_text() == ""
    ask(page, "who lit the lamp of Inish?")
    assert page.locator("#answer-text .said").inner_text().startswith("Oisin Daly")
    removed(page, "lamp.txt")
    page.wait_for_selector("text=Done: the documents are up to date.")
    ask(page, "who lit the lamp of Inish?")
    assert "lamp.txt" not in page.locator("#passages").inner_text()


def removed(page, name):
    """Have a file removed, and wait until that can't be undone any more."""
    page.click(f"[data-key='remove-{name}']")
    page.locator(f"[data-key='remove-{name}']").wait_for(state="detached", timeout=20_000)


def test_what_was_removed_can_be_had_back_for_a_few_seconds(opened, served):
    """By the keyboard alone: the button stays in its place, and says what it does now."""
    page, sent = opened(), []
    page.on("request", lambda request: sent.append(request.method) if request.method == "DELETE" else None)
    page.evaluate(KEPT)
    for name in ("mast.txt", "oar.txt"):
        page.set_input_files("#files", {"name": name, "mimeType": "text/plain", "buffer": b"Made of ash."})
        wait_for_file(page, name, "ready")
    page.focus("[data-key='remove-mast.txt']")
    page.keyboard.press("Enter")
    button = page.locator("[data-key='remove-mast.txt']")
    assert (button.inner_text(), button.get_attribute("aria-label")) == ("Undo", "Undo: keep mast.txt")
    assert page.evaluate("document.activeElement.dataset.key") == "remove-mast.txt"
    assert page.locator("#documents-said[role=status]").inner_text() == (
        "mast.txt is being removed. For a few seconds this can be undone."
    )
    assert page.locator("li.leaving").inner_text().startswith("mast.txt\nbeing removed")
    page.keyboard.press("Enter")
    assert (button.inner_text(), button.get_attribute("aria-label")) == ("Remove", "Remove mast.txt")
    assert page.inner_text("#documents-said") == "mast.txt stays."
    page.wait_for_timeout(7_000)
    assert sent == []
    # Two at once; the focus goes on to what is there when its button goes.
    page.click("[data-key='remove-oar.txt']")
    page.keyboard.press("Shift+Tab")
    removed(page, "mast.txt")
    page.locator("[data-key='remove-oar.txt']").wait_for(state="detached", timeout=20_000)
    assert sent == ["DELETE", "DELETE"]
    assert page.evaluate("window.kept") == [True, True]  # sent to their end, also by a page that is left
    assert page.evaluate("document.activeElement.id") == "files"


def test_what_is_added_again_stays_and_what_is_left_in_a_hurry_goes(opened, served):
    page = opened()
    given = [
        {"name": name, "mimeType": "text/plain", "buffer": b"Made of ash."} for name in ("a.txt", "b.txt")
    ]
    page.set_input_files("#files", given)
    for file in given:
        wait_for_file(page, file["name"], "ready")
        page.click(f"[data-key='remove-{file['name']}']")
    page.set_input_files("#files", given[:1])
    page.locator("[data-key='remove-a.txt']", has_text="Remove").wait_for()
    page.goto("about:blank")
    for _ in range(100):
        added = [one["name"] for one in served.get("/v1/documents").json()["added"]]
        if "b.txt" not in added:
            break
        page.wait_for_timeout(50)
    assert "a.txt" in added
    assert "b.txt" not in added
    served.delete("/v1/documents/a.txt")


def test_documents_are_dropped_and_what_is_left_out_says_why(opened):
    page = opened()
    page.wait_for_selector("#all-files")
    page.evaluate(DROP, ["scan.pdf", "%PDF-1.7 and nothing else"])
    assert page.evaluate("window.veiled")
    assert not page.locator("#drop").is_visible()
    wait_for_file(page, "scan.pdf", "left out: ")
    removed(page, "scan.pdf")
    page.click("#all-files summary")
    listed = page.locator("#all-files li").all_inner_texts()
    assert any(line.startswith("broken.pdf\nleft out: ") for line in listed)
    assert any(line == "harbour.txt\n1 passage" for line in listed)
    assert "empty.txt\nleft out: empty" in listed
    left_out = sum("\nleft out: " in line for line in listed)
    assert page.inner_text("#served").startswith(f"{len(listed) - left_out} files, ")
    assert page.inner_text("#served").endswith(f", {left_out} left out")


def test_how_indexing_goes_is_shown(opened):
    """As the server's events have it; the events are played back, since a few files are read in no time."""
    page = opened()
    progress = {"event": "progress", "stage": "read", "done_files": 3, "total_files": 12, "passages": 1234,
                "done_bytes": 25, "total_bytes": 100}  # fmt: skip
    body = f"event: progress\r\ndata: {json.dumps(progress)}\r\n\r\n"
    page.route(
        "**/v1/documents/events", lambda route: route.fulfill(body=body, content_type="text/event-stream")
    )
    page.reload()
    page.wait_for_selector("#documents-said progress")
    assert page.inner_text("#documents-said") == "Reading: 3 of 12 files, 1,234 passages"
    assert page.locator("#documents-said progress").evaluate("bar => bar.value") == 0.25


def test_documents_that_cannot_be_added_to(opened):
    page = opened()
    fixed = {"total": 0, "documents": [], "added": [], "can_add": False}
    page.route("**/v1/documents?*", lambda route: route.fulfill(json=fixed))
    page.reload()
    page.wait_for_selector("text=none can be added here")
    assert page.locator("#files").count() == 0
    page.evaluate(DROP, ["a.txt", "text"])
    assert not page.evaluate("window.veiled")


def test_markup_stays_text(opened):
    """In titles, texts, names of files, questions, links, history, what is added: shown, and not run."""
    page = opened()
    ask(page, "who keeps the cellar of the Anchor?")
    first = page.locator(".passage").first
    assert first.locator("h3").inner_text() == MARKUP
    assert MARKUP in first.locator(".text").inner_text()
    page.hover(".chip")
    page.click("[data-key=source-0]")
    page.wait_for_selector("#source-1 .surroundings")
    assert MARKUP in page.inner_text("#source-1")
    name = f'"><img src=x onerror="{HIT}">.txt'
    page.evaluate(DROP, [name, f"The mast is kept by {MARKUP} Una Reid."])
    wait_for_file(page, "Remove", "ready")
    ask(page, MARKUP)
    page.goto(page.url.split("#")[0] + "?again#q=" + MARKUP)
    page.wait_for_selector(DONE)
    assert page.locator("#history a").first.inner_text() == MARKUP
    page.click("#all-files summary")
    assert page.locator("#all-files li", has_text="onerror").count() >= 1
    page.locator("#documents-list [data-key^=remove]").first.click()
    page.locator("#documents-list [data-key^=remove]").first.wait_for(state="detached", timeout=20_000)
    assert page.locator("script:not([src])").count() == 0
    assert page.locator("main img, aside img, [onerror]").count() == 0


@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(opened, width, scheme):
    """Nothing is wider than the screen, and axe has nothing serious to say."""
    axe = os.environ.get("FIDKIT_AXE")
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 740})
    for state in ("empty", "answered", "opened", "help"):
        if state == "answered":
            ask(page, "who was the boathouse leased to?")
            page.click("#compare")
            page.hover(".chip >> nth=0")
        elif state == "opened":
            page.click("[data-key=source-0]")
            page.click("[data-key=without-0]")
            page.wait_for_selector("#source-1 .surroundings")
            page.click("#all-files summary")
        elif state == "help":
            page.click("#help-button")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, state
        if axe:
            assert findings(page, axe) == [], state
    if not axe:
        pytest.skip("axe wasn't asked: FIDKIT_AXE names no axe.min.js")


def findings(page, axe):
    """What axe finds that is serious, with the elements."""
    page.evaluate(Path(axe).read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_the_order_of_the_focus(opened):
    page = opened()
    page.evaluate("document.body.tabIndex = -1, document.body.focus()")  # from the beginning
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert seen == ["Skip to the question", "API", "help-button", "language", "question", "submit"]


def test_a_key_is_asked_for(browser, opened, documents, tmp_path):
    key = add(tmp_path / "keys", "ada")
    with running(documents, access=Access(Keys(tmp_path / "keys"))) as client:
        page = opened("/#q=where%20is%20tea%20grown%3F", base=client.base_url, complains=True)
        assert page.locator("#question").count() == 0
        page.fill("#key", "fk-wrong")
        page.press("#key", "Enter")
        page.wait_for_selector("text=This key isn’t known here.")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector(DONE)  # and the question of the link is asked
        assert page.locator("#answer-text .said").inner_text().startswith("Kenya")
        (cookie,) = page.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("fidkit_key", True, "Strict")
        assert page.evaluate("document.cookie") == ""
        page.goto("about:blank")  # lets go of the server's events


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_enter(opened, documents, tmp_path, scheme):
    """The page that asks for a key: not wider than the screen, and axe has nothing serious to say."""
    add(tmp_path / "keys", "ada")
    axe = os.environ.get("FIDKIT_AXE")
    with running(documents, access=Access(Keys(tmp_path / "keys"))) as client:
        page = opened(base=client.base_url, complains=True, color_scheme=scheme, locale="de-DE",
                      viewport={"width": 360, "height": 740})  # fmt: skip
        for state in ("asked", "wrong"):
            if state == "wrong":
                page.fill("#key", "fk-wrong")
                page.press("#key", "Enter")
                page.wait_for_selector("text=Dieser Schlüssel ist hier nicht bekannt.")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, state
            if axe:
                assert findings(page, axe) == [], state
    if not axe:
        pytest.skip("axe wasn't asked: FIDKIT_AXE names no axe.min.js")


def test_the_api_has_a_page_of_its_own(opened, served):
    paths = served.get("/openapi.json").json()["paths"]
    page = opened("/api", color_scheme="dark", viewport={"width": 360, "height": 740})
    page.wait_for_selector("#routes section")
    text = page.inner_text("#routes")
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in text
    assert f"curl {str(served.base_url).rstrip('/')}/v1/answer" in text
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if axe := os.environ.get("FIDKIT_AXE"):
        assert findings(page, axe) == []


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en-US", ["pages 1-2", "rows 4-6", "row 4", "sheet 2024-25 · cells 2-3"]),
        ("de-DE", ["Seiten 1-2", "Zeilen 4-6", "Zeile 4", "Blatt 2024-25 · Zellen 2-3"]),
    ],
)
def test_several_pages_and_rows_are_called_so(opened, locale, said):
    """A passage may stand on two pages; the command line says the same of it."""
    places = [{"page": "1-2"}, {"row": "4-6"}, {"row": "4"}, {"sheet": "2024-25", "cell": "2-3"}]
    page = opened(locale=locale)
    script = """async (places) => {
      const at = document.querySelector("script[type=module]").src.replace("main.js", "evidence.js");
      const { placeInWords } = await import(at);
      return places.map((where) => placeInWords({ source: "a.csv:0-9", where }));
    }"""
    assert page.evaluate(script, places) == [f"a.csv · {place}" for place in said]
