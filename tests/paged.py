"""What tests of the page share."""

HARBOUR = "who is the harbour master of Ringsend?"
HIT = "window.hit = 1"
MARKUP = f'<img src="x" onerror="{HIT}"><script>{HIT}</script>'
DONE = "#timings:not([hidden])"


def ask(page, question):
    """Ask, and wait until the answer is there."""
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(DONE)
    return page
