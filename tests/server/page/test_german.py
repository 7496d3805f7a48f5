"""What the server says, on a German page: in German, by its codes and sentences."""

import re

import pytest

from fidkit.server.limits import Limits
from paged import HARBOUR, ask
from served import running

pytestmark = pytest.mark.browser
LANGUAGE = {"locale": "de-DE", "complains": True}


def problem(page):
    return page.locator("#answer-text .problem").inner_text()


def test_a_queue_that_is_full(opened, documents):
    with running(documents, limits=Limits(waiting=0)) as client:
        page = opened("/#q=where%20is%20tea%20grown%3F", base=client.base_url, **LANGUAGE)
        page.wait_for_selector("#answer-text .problem")
        assert problem(page) == "Der Server nimmt gerade keine Fragen mehr an. Fragen Sie in 1 s noch einmal."
        page.goto("about:blank")


def test_a_question_that_is_too_long(opened):
    page = opened("/#q=" + "a" * 2001, **LANGUAGE)
    page.wait_for_selector("#answer-text .problem")
    assert problem(page) == "Die Frage hat 2.001 Zeichen; der Server nimmt 2.000."
    page.click("#language")
    page.click("text=Ask again")
    page.wait_for_selector("text=question: 2,001 characters of a question; this server takes 2,000 at most")


def test_files_that_are_not_taken(opened):
    page = opened(**LANGUAGE)
    files = [
        {"name": name, "mimeType": "text/plain", "buffer": b"text"} for name in ("a.exe", ".a.txt", "b.txt")
    ]
    page.set_input_files("#files", files)
    page.wait_for_selector("text=a.exe: Dateien dieser Art werden nicht gelesen.")
    page.wait_for_selector("text=.a.txt: So kann eine Datei hier nicht heißen.")
    page.locator(".list.files li", has_text="b.txt").filter(has_text="bereit").first.wait_for()
    page.set_input_files("#files", files[:1])
    page.locator("text=.a.txt").wait_for(state="detached")
    page.wait_for_selector("text=a.exe: Dateien dieser Art werden nicht gelesen.")
    page.set_input_files("#files", files[:2])  # none of which is taken: both are named
    page.wait_for_selector("text=.a.txt: So kann eine Datei hier nicht heißen.")
    page.wait_for_selector("text=a.exe: Dateien dieser Art werden nicht gelesen.")
    page.click("[data-key='remove-b.txt']")
    page.locator("[data-key='remove-b.txt']").wait_for(state="detached", timeout=20_000)
    page.click("#all-files summary")
    reason = page.locator("#all-files li", has_text="broken.pdf").locator("[lang=en]")
    assert reason.inner_text()  # as its loader says it


def test_what_is_too_large(opened, documents):
    with running(documents, limits=Limits(upload_bytes=1_500_000)) as client:
        page = opened(base=client.base_url, **LANGUAGE)
        page.set_input_files(
            "#files", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"a" * 1_600_000}
        )
        page.wait_for_selector("text=Das ist zu groß: Der Server nimmt 1,5 MB auf einmal.")
        page.goto("about:blank")


def test_a_note_of_an_answer(opened):
    page = ask(opened(**LANGUAGE), HARBOUR[:-1] + ", and who is it not, and why" * 60 + "?")
    note = page.locator("#answer-more .note")
    assert re.fullmatch(
        r"Die Frage ist für den Leser um \d+ von \d+ Token zu lang: Das Ende fiel weg", note.inner_text()
    )
    page.click("#language")
    assert note.inner_text().startswith("the question is ")
