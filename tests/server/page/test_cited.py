"""What a citation of OpenAI's protocols leads to: the page, with the passage opened and the answer marked."""

import pytest

from paged import HARBOUR, ask

pytestmark = pytest.mark.browser
LEASE = "who was the boathouse leased to?"


def address(served, question):
    """Of the first citation, without the server's."""
    messages = [{"role": "user", "content": question}]
    done = served.post("/v1/chat/completions", json={"model": "pocket", "messages": messages}).json()
    [citation, *_] = done["choices"][0]["message"]["annotations"]
    return citation["url_citation"]["url"].removeprefix(str(served.base_url).rstrip("/"))


def test_the_passage_is_opened_with_the_answer_marked(opened, served):
    page = opened(address(served, HARBOUR))
    page.wait_for_selector("#linked mark")
    assert page.locator("#linked mark").all_inner_texts() == ["Aoife Brennan"]
    assert "She has kept the ledger since 1911." in page.inner_text("#linked")
    assert page.evaluate("document.activeElement.id") == "linked-heading"
    assert not page.locator("#answer").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#linked").is_visible()


def test_the_question_has_no_focus_while_a_passage_is_fetched(opened, served):
    page = opened()
    page.route("**/v1/passages/**", lambda route: None)  # never answered
    with page.expect_response("**/v1/readers"):
        page.goto(str(served.base_url).rstrip("/") + "/?again" + address(served, HARBOUR)[1:])
    page.wait_for_selector("text=Opening …")
    assert page.evaluate("document.activeElement.id") == ""
    page.unroute_all(behavior="ignoreErrors")


def test_a_page_of_a_pdf_is_shown(opened, served):
    page = opened(address(served, LEASE), viewport={"width": 360, "height": 740})
    page.wait_for_selector("#linked img.page")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#linked mark").inner_text() == "Maeve Connolly"
    assert page.locator("#linked img.page").get_attribute("src").endswith("lease.pdf%3A51-65")
    assert "page 1" in page.locator("#linked .place").inner_text()


def test_a_question_takes_its_place_and_the_way_back_opens_it_again(opened, served):
    page = opened(address(served, HARBOUR))
    page.wait_for_selector("#linked mark")
    ask(page, LEASE)
    assert not page.locator("#linked").is_visible()
    page.go_back()
    page.wait_for_selector("#linked mark")
    assert not page.locator("#evidence").is_visible()


@pytest.mark.parametrize("answer", ["", "&answer=80-90", "&answer=5-5", "&answer=x"])
def test_all_that_a_link_leads_to_is_marked_where_it_says_no_answer_in_it(opened, answer):
    page = opened("/#source=harbour.txt:4-18" + answer)
    page.wait_for_selector("#linked mark")
    assert page.locator("#linked mark").inner_text() == "harbour master"


def test_a_document_that_is_gone(opened):
    page = opened("/#source=gone.txt:0-4", complains=True)
    page.wait_for_selector("#linked .problem")
    assert "no document is called" in page.inner_text("#linked .problem")
