"""What a server sends of its page, without a browser."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import fidkit.server
from fidkit.answerer import GUESS
from fidkit.engine.answering import _not_stored, _read_otherwise
from fidkit.errors import DataError
from fidkit.passages.local.away import AwayError
from fidkit.passages.local.layout import UnwritableError
from fidkit.passages.protocol import NOTHING_FOUND
from fidkit.server import errors
from fidkit.server.guard import Access
from fidkit.server.keys import Keys, add
from fidkit.server.told import of_indexing, without_places
from fidkit.tokens import QuestionTokens
from fidkit.types import Passage
from served import running

FOLDER = Path(fidkit.server.__file__).parent / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_sent_as_it_is(client, name):
    content = (FOLDER / name).read_bytes()
    response = client.get(f"/page/{name}")
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["content-encoding"] == "gzip"
    assert "unsafe" not in response.headers["content-security-policy"]
    again = client.get(f"/page/{name}", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/page/{name}", headers={"If-None-Match": '"of before"'}).status_code == 200
    kept = f'"of before", W/{response.headers["etag"]}'  # as a proxy that packs files asks
    assert client.get(f"/page/{name}", headers={"If-None-Match": kept}).status_code == 304
    assert response.headers["vary"] == "Accept-Encoding, Cookie"


@pytest.mark.parametrize("taken", ["identity", "br, gzip;q=0", "gzip; q=0.000", "x-gzip"])
def test_a_client_without_gzip_gets_plain_bytes(client, taken):
    response = client.get("/page/main.js", headers={"Accept-Encoding": taken})
    assert "content-encoding" not in response.headers
    assert response.content == (FOLDER / "main.js").read_bytes()


@pytest.mark.parametrize("name", ["none.js", "../guard.py", "%2e%2e%2fguard.py", ".", "page"])
def test_no_other_file_is_sent(client, name):
    assert client.get(f"/page/{name}").status_code == 404


def test_the_page_is_at_the_root_and_that_of_the_api_beside_it(client):
    assert client.get("/").content == (FOLDER / "index.html").read_bytes()
    assert client.get("/api").content == (FOLDER / "api.html").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_nothing_comes_from_elsewhere_and_nothing_is_made_of_markup(name):
    text = (FOLDER / name).read_text()
    assert set(re.findall(r"https?://[^\"'\s/]+", text)) <= {"http://www.w3.org"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|DOMParser", text)
    assert not re.search(r"<script>|<style|\sstyle=|\son[a-z]+=\"", text)
    assert len(text.splitlines()) <= 300


def test_every_file_is_used():
    texts = "".join((FOLDER / name).read_text() for name in FILES)
    roots = {"index.html", "enter.html", "api.html"}
    assert {name for name in FILES if f'/{name}"' not in texts} == roots


def test_both_languages_say_the_same():
    text = (FOLDER / "words.js").read_text()
    english, german = text.split("\n  de: {")
    words = re.compile(r"^    (\w+):", re.MULTILINE)
    assert words.findall(english) == words.findall(german)


def told_in_german():
    """Codes and patterns of what the page says in German of what the server says in English."""
    text = (FOLDER / "told.js").read_text()
    return re.findall(r"^  \"?([\w.]+)\"?: \(", text, re.MULTILINE), re.findall(
        r"^  \[/(.+)/, ", text, re.MULTILINE
    )


def test_codes_that_are_told_in_german_are_those_of_errors():
    codes, _ = told_in_german()
    assert len(codes) > 10
    assert {code.split(".")[0] for code in codes} <= {*errors._CODES.values(), errors._AWAY}


def test_sentences_that_are_told_in_german_are_those_of_the_server():
    store = SimpleNamespace(directory="/place", reader="tiny")
    passages = [[Passage("1", "", "tea"), Passage("2", "", "ink")]]
    question = QuestionTokens([1] * 5, dropped=3)
    said = [
        *_not_stored(1, passages, passages, store),
        *_read_otherwise("tea?", question, None),
        f"{NOTHING_FOUND}; {GUESS}",
        of_indexing(UnwritableError("/place: full"), ["/place"]),
        of_indexing(AwayError("/place: gone"), ["/place"]),
        of_indexing(DataError("/place/a.md: broken at /place"), ["/place"]),
        of_indexing(DataError("broken at /place"), ["/place"]),
    ]
    parts = {part for one in without_places(said) for part in one.split("; ")}
    _, patterns = told_in_german()
    assert len(patterns) == 9
    for pattern in patterns:
        assert [part for part in parts if re.search(pattern, part)], pattern
    for part in parts:
        assert [pattern for pattern in patterns if re.search(pattern, part)], part


def test_the_page_asks_for_a_key_and_keeps_it_where_scripts_cannot_read_it(folder, tmp_path):
    key = add(tmp_path / "keys", "ada")
    with running(folder, access=Access(Keys(tmp_path / "keys"))) as client:
        asked = client.get("/")
        assert asked.content == (FOLDER / "enter.html").read_bytes()
        assert asked.headers["referrer-policy"] == "same-origin"
        wrong = client.post("/enter", data={"key": "fk-wrong"})
        assert wrong.status_code == 403
        assert "This key isn’t known here." in wrong.text
        assert "set-cookie" not in wrong.headers
        right = client.post("/enter", data={"key": f" {key} "})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        cookie = right.headers["set-cookie"].lower()
        assert cookie.startswith(f"fidkit_key={key.lower()};")
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "secure" not in cookie
        behind = client.post("/enter", data={"key": key}, headers={"X-Forwarded-Proto": "https"})
        assert "secure" in behind.headers["set-cookie"].lower()
        client.cookies.set("fidkit_key", key)
        assert client.get("/").content == (FOLDER / "index.html").read_bytes()
        assert client.get("/v1/readers").status_code == 200
        assert client.get("/page/main.js").status_code == 200
        client.cookies.clear()
        assert client.get("/api").status_code == 401
        assert client.get("/page/enter.js").status_code == 200
        assert wrong.headers["cache-control"] == "no-store"
