"""The page in a browser: questions, answers, evidence."""

import json

import pytest

from paged import DONE, HARBOUR, ask

pytestmark = pytest.mark.browser
GARDEN = "how many pear trees has garden 4 of the town?"
GROWING = """() => {
  window.grown = [];
  new MutationObserver((records) => {
    for (const { addedNodes } of records) for (const node of addedNodes) {
      if (node.classList?.contains("growing")) window.grown.push(node.textContent);
    }
  }).observe(document.getElementById("answer-text"), { childList: true });
}"""


def until(page, expression):
    """Wait for what JavaScript says. Asked from outside: the page evaluates nothing."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def said(page):
    return page.locator("#answer-text .said").inner_text()


def test_an_answer_grows_and_stands_beside_its_evidence(opened):
    page = opened()
    page.evaluate(GROWING)
    ask(page, HARBOUR)
    grown = page.evaluate("window.grown")
    assert grown[0] == "Reading …"
    assert grown[-1] == "Aoife Brennan"
    assert len(grown) > 2
    assert said(page).startswith("Aoife Brennan")
    assert page.locator("#answer-text").get_attribute("aria-live") == "polite"
    first = page.locator(".passage").first
    assert first.locator("mark.exact").inner_text() == "Aoife Brennan"
    marked = "".join(first.locator("mark").all_inner_texts())
    assert marked == "The harbour master of Ringsend is Aoife Brennan."
    assert "% sure" in page.locator("#answer-more").inner_text()


def test_passages_are_ranked_by_their_share(opened):
    page = ask(opened(), GARDEN)
    page.click("#more")
    told = page.locator(".share .unseen").all_inner_texts()
    shares = [0 if text.startswith("<") else int(text.split("%")[0]) for text in told]
    assert len(shares) > 5
    assert shares == sorted(shares, reverse=True)
    bars = page.locator(".bar .full").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().width)"
    )
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]


def test_a_chip_says_at_once_what_it_stands_for_and_leads_there(opened):
    page = ask(opened(), HARBOUR)
    hover = page.locator(".hover").first
    assert not hover.is_visible()
    page.hover(".chip")
    assert hover.is_visible()
    assert "Aoife Brennan" in hover.inner_text()
    assert hover.evaluate("one => getComputedStyle(one).transitionDuration") == "0s"
    page.click(".chip")
    assert page.evaluate("document.activeElement.id") == "passage-1"


def test_the_answer_without_a_passage_is_there_before_it_is_asked_for(opened):
    page = opened()
    with page.expect_response(
        lambda response: "test_evidence" in (response.request.post_data or "")
    ) as tested:
        ask(page, "where is tea grown?")
    tested.value.finished()
    page.wait_for_selector(".rests")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("[data-key=without-0]")
    told = page.locator("#without-1").inner_text()
    assert told.startswith("Without this passage, the answer would be: ")
    without = tested.value.json()["evidence"][0]["without"]["answer"]
    assert without != "Kenya"
    assert page.locator("#without-1 b").inner_text() == (without or "nothing")
    assert asked == []


def test_the_source_of_a_text_opens_in_place(opened):
    page = ask(opened(), HARBOUR)
    page.click("[data-key=source-0]")
    page.wait_for_selector("#source-1 .surroundings")
    assert "She has kept the ledger since 1911." in page.locator("#source-1").inner_text()
    assert page.locator("#source-1 mark.exact").inner_text() == "Aoife Brennan"
    assert page.locator("[data-key=source-0]").get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#source-1").count() == 0


def test_the_page_of_a_pdf_is_shown_with_its_text(opened):
    page = ask(opened(), "who was the boathouse leased to?")
    assert said(page).startswith("Maeve Connolly")
    assert "page 1" in page.locator(".place").first.inner_text()
    page.click("[data-key=source-0]")
    until(page, "document.querySelector('img.page')?.naturalWidth > 0")
    assert page.locator("img.page").get_attribute("alt").startswith("Page 1 of lease.pdf")
    assert "Lease of the boathouse" in page.locator("#source-1 .surroundings").inner_text()
    loaded = page.evaluate_handle("document.querySelector('img.page')")
    page.click("[data-key=without-0]")  # what is drawn anew keeps the picture
    assert page.evaluate("(before) => document.querySelector('img.page') === before", loaded)


def test_a_page_that_cannot_be_drawn_leaves_its_text(opened):
    page = opened(complains=True)
    page.route("**/v1/pages/**", lambda route: route.fulfill(status=422, body="{}"))
    ask(page, "who was the boathouse leased to?")
    page.click("[data-key=source-0]")
    page.wait_for_selector("text=The page can’t be shown as a picture.")
    assert page.locator("img.page").count() == 0
    assert "Lease of the boathouse" in page.locator("#source-1 .surroundings").inner_text()


def test_readers_side_by_side(opened):
    page = ask(opened(), HARBOUR)
    page.click("#compare")
    until(page, "!document.querySelector('#readers').textContent.includes('Asking')")
    rows = [row.split("\t") for row in page.locator("#readers tbody tr").all_inner_texts()]
    assert [row[:2] for row in rows] == [["pocket", "Aoife Brennan"], ["second", "Aoife Brennan"]]
    assert all(row[3].endswith("ms") for row in rows)
    page.select_option("#reader", "second")
    with page.expect_request("**/v1/answer") as request:
        page.press("#question", "Enter")
    assert json.loads(request.value.post_data)["reader"] == "second"


def test_silence_is_said_and_the_guess_is_folded(opened, served):
    question = "what is the boiling point of mercury?"
    guess = served.post("/v1/answer", json={"question": question, "passages": 20}).json()
    assert guess["answer"] is None
    page = ask(opened(), question)
    assert said(page) == "Your documents don’t seem to say."
    assert not page.locator(".guess").is_visible()
    page.click("#answer-text summary")
    assert page.locator(".guess").inner_text().startswith(guess["guess"])


def test_times_by_stage_fill_one_bar(opened):
    page = ask(opened(), HARBOUR)
    legend = page.locator("#timings .legend li").all_inner_texts()
    assert {"search", "read", "write"} <= {line.split("\n")[0].split("  ")[0] for line in legend}
    widths = page.locator(".stacked rect").evaluate_all(
        "all => all.map((one) => parseFloat(one.getAttribute('width')))"
    )
    assert len(widths) == len(legend)
    assert sum(widths) == pytest.approx(100, abs=1.5)


def test_questions_are_kept_until_they_are_cleared(opened):
    page = ask(opened(), HARBOUR)
    ask(page, "where is tea grown?")
    page.reload()
    page.wait_for_selector(DONE)
    assert page.locator("#history a").all_inner_texts() == ["where is tea grown?", HARBOUR]
    page.click("#history a >> nth=1")
    page.wait_for_selector("text=Aoife Brennan")
    assert page.input_value("#question") == HARBOUR
    page.go_back()
    until(page, "document.querySelector('#question').value === 'where is tea grown?'")
    until(page, "document.querySelector('#history a').textContent === 'where is tea grown?'")  # answered
    page.click("[data-key=clear]")
    assert page.locator("#history a").count() == 0
    assert page.evaluate("localStorage.getItem('fidkit.history')") == "[]"


def test_a_link_asks_its_question(opened):
    page = opened("/#q=who%20built%20the%20mill%20at%20Ardgath%3F")
    page.wait_for_selector(DONE)
    assert said(page).startswith("Tomas Quill")
    assert page.title() == "who built the mill at Ardgath? – fidkit"


def test_the_keyboard_alone_is_enough(opened):
    page = opened()
    assert page.evaluate("document.activeElement.id") == "question"
    ask(page, GARDEN)
    page.keyboard.press("Escape")
    for key, place in (
        ("j", "passage-1"),
        ("j", "passage-2"),
        ("k", "passage-1"),
        ("k", "passage-1"),
        ("/", "question"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == place
    assert page.input_value("#question") == GARDEN  # "/" isn't typed
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert page.locator("#help kbd").all_inner_texts() == ["/", "j", "k", "Esc", "?"]
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_reading_is_stopped(opened):
    page = opened()
    page.route("**/v1/answer", lambda route: None)  # never answered
    page.fill("#question", HARBOUR)
    page.press("#question", "Enter")
    page.wait_for_selector("text=Reading …")
    assert page.inner_text("#submit") == "Stop"
    page.keyboard.press("Escape")
    assert page.inner_text("#submit") == "Ask"
    assert not page.locator("#answer").is_visible()
    page.unroute_all(behavior="ignoreErrors")


def test_what_goes_wrong_is_said(opened):
    page = opened(complains=True)
    page.route("**/v1/answer", lambda route: route.abort())
    page.fill("#question", HARBOUR)
    page.press("#question", "Enter")
    page.wait_for_selector("text=The server can’t be reached.")
    page.unroute("**/v1/answer")
    page.click("text=Ask again")
    page.wait_for_selector(DONE)
    assert said(page).startswith("Aoife Brennan")


def test_german_and_english(opened):
    page = opened(locale="de-DE")
    ask(page, HARBOUR)
    assert page.evaluate("document.documentElement.lang") == "de"
    assert page.inner_text("#submit") == "Fragen"
    assert page.inner_text("#evidence-heading") == "Belege"
    page.click("#language")
    assert page.inner_text("#submit") == "Ask"
    assert page.inner_text("#evidence-heading") == "Evidence"
    page.goto(page.url.split("#")[0] + "?")
    assert page.inner_text("#submit") == "Ask"  # the choice is kept
