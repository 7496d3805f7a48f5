"""Who may ask, from which page, how much, and how slowly."""

import gzip
import json
import logging
import socket
import time
from pathlib import Path

import httpx
import pytest

from fidkit.errors import CorpusError, DataError, ForeignMemoryError, UsageError
from fidkit.server import errors
from fidkit.server.guard import Access
from fidkit.server.keys import Keys, add
from fidkit.server.limits import Limits
from fidkit.server.routes import state
from fidkit.server.scheduler import LateError, OverloadedError
from served import running

SMALL = Limits(body_bytes=2_000, upload_bytes=3_000, quiet_seconds=0.5, waiting=8)


@pytest.fixture(scope="module")
def keyed(folder, tmp_path_factory):
    """A server that asks for keys, has small limits, and whose name is answers.example too."""
    path = tmp_path_factory.mktemp("keys") / "keys"
    key = add(path, "ada")
    access = Access(Keys(path), frozenset({"answers.example"}))
    with running(folder, limits=SMALL, access=access) as client:
        client.key, client.keys = key, path
        yield client


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def raw(client, sent, *, wait=5.0):
    """What comes back for bytes, until the server ends it."""
    url = client.base_url
    with socket.create_connection((url.host, url.port), timeout=wait) as connection:
        connection.sendall(sent)
        came = b""
        while piece := connection.recv(65536):
            came += piece
        return came


ROUTES = [
    ("POST", "/v1/answer"), ("POST", "/v1/search"), ("GET", "/v1/readers"), ("GET", "/v1/corpora"),
    ("GET", "/v1/documents"), ("POST", "/v1/documents"), ("DELETE", "/v1/documents/x"),
    ("GET", "/v1/documents/events"), ("GET", "/v1/passages/x"), ("GET", "/v1/pages/x"), ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"), ("POST", "/v1/responses"), ("POST", "/mcp/"), ("GET", "/metrics"),
    ("GET", "/openapi.json"), ("GET", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_a_key(keyed, method, path):
    for headers in (
        {},
        bearer("fk-wrong"),
        {"Authorization": keyed.key},
        {"Cookie": "fidkit_key=x"},
    ):
        response = keyed.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_all_routes_are_known_here(client):
    """A route that comes later is asked for a key as well, or named as open."""
    paths = client.get("/openapi.json").json()["paths"]
    asked = {path for _, path in ROUTES} | {"/healthz", "/readyz"}
    known = {path.replace("{name}", "x").replace("{source}", "x") for path in paths}
    assert {path for path in known - asked if not path.startswith("/v1/models/")} == set()


def test_refusals_and_streams_are_documented(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    assert described["components"]["schemas"]["Body_add_v1_documents_post"]["properties"]["files"]["minItems"]
    assert {"202", "400", "409", "413", "415", "422", "507"} <= {*paths["/v1/documents"]["post"]["responses"]}
    for path in ("/v1/answer", "/v1/chat/completions", "/v1/responses"):
        responses = paths[path]["post"]["responses"]
        assert {*responses["200"]["content"]} == {"application/json", "text/event-stream"}
        assert "400" in responses


def test_a_key_opens(keyed):
    assert keyed.get("/v1/readers", headers=bearer(keyed.key)).status_code == 200
    assert keyed.get("/v1/readers", headers={"Cookie": f"fidkit_key={keyed.key}"}).status_code == 200
    for written in (f"bearer  {keyed.key}", f"BEARER {keyed.key}"):
        assert keyed.get("/v1/readers", headers={"Authorization": written}).status_code == 200
    assert keyed.get("/healthz").status_code == 200
    assert keyed.get("/readyz").json()["status"] == "ready"


def test_a_key_that_is_taken_out_is_revoked(keyed):
    other = add(keyed.keys, "bob")
    assert keyed.get("/v1/readers", headers=bearer(other)).status_code == 200
    kept = [line for line in keyed.keys.read_text().splitlines() if not line.startswith("bob ")]
    keyed.keys.write_text("\n".join(kept) + "\n")
    assert keyed.get("/v1/readers", headers=bearer(other)).status_code == 401
    assert keyed.get("/v1/readers", headers=bearer(keyed.key)).status_code == 200


@pytest.mark.parametrize("content", [None, b"ada\n", b"\xff"])
def test_while_the_file_of_keys_is_none_nobody_has_one(keyed, content, caplog):
    kept = keyed.keys.read_bytes()
    keyed.keys.unlink() if content is None else keyed.keys.write_bytes(content)
    for _ in range(2):
        refused = keyed.get("/v1/readers", headers=bearer(keyed.key))
        assert refused.status_code == 401
        assert str(keyed.keys.parent) not in refused.text
    assert caplog.text.count("until then nobody's key is known") == 1
    assert keyed.post("/enter", data={"key": keyed.key}).status_code == 403
    keyed.keys.write_bytes(kept)
    keyed.keys.chmod(0o600)
    assert keyed.get("/v1/readers", headers=bearer(keyed.key)).status_code == 200


def test_a_file_of_keys_holds_no_key(keyed):
    assert keyed.key not in keyed.keys.read_text()
    assert keyed.keys.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("line", ["ada", "ada sha256:12", "ada md5:" + "0" * 64, "ada sha256:" + "\xe9" * 64])
def test_a_line_that_is_no_key(tmp_path, line):
    path = tmp_path / "keys"
    path.write_text(f"# of the office\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 3: no key"):
        Keys(path)


def test_a_key_is_added_behind_a_line_that_an_editor_left_open(tmp_path):
    path = tmp_path / "keys"
    ada = add(path, "ada")
    path.write_text(path.read_text().rstrip("\n"))
    bob = add(path, "bob")
    keys = Keys(path)
    assert (keys.owner(ada), keys.owner(bob)) == ("ada", "bob")
    assert path.read_text().count("\n") == 2


def test_all_of_a_hash_counts(tmp_path):
    path = tmp_path / "keys"
    key = add(path, "ada")
    kept = path.read_text().rstrip()
    path.write_text(kept[:-1] + ("1" if kept.endswith("0") else "0"))
    assert Keys(path).owner(key) is None


def test_a_line_of_keys_may_have_tabs(tmp_path):
    path = tmp_path / "keys"
    ada = add(path, "ada")
    path.write_text(path.read_text().replace(" ", "\t  "))
    assert Keys(path).owner(ada) == "ada"


@pytest.mark.parametrize("other", ["a/b=1", "(x)=1", '{"a":1}', "[x]=1", "fidkit=1", "x"])
def test_cookies_of_others_are_passed_over(keyed, other):
    """Cookies know no ports: any other program of this machine may have set some."""
    for header in (f"{other}; fidkit_key={keyed.key}", f"fidkit_key={keyed.key};{other}"):
        assert keyed.get("/v1/readers", headers={"Cookie": header}).status_code == 200
    assert keyed.get("/v1/readers", headers={"Cookie": other}).status_code == 401


@pytest.mark.parametrize("place", ["/dev/full", "/dev/zero", "/"])
def test_what_is_no_file_holds_no_keys(place):
    with pytest.raises(UsageError, match="it is no file"):
        add(Path(place), "ada")


def test_names_of_keys(tmp_path):
    path = tmp_path / "keys"
    add(path, "ada")
    for name, says in (("ada", "has a key of ada already"), ("", "no name"), ("a b", "no name")):
        with pytest.raises(UsageError, match=says):
            add(path, name)
    with pytest.raises(UsageError, match="fidkit keys add"):
        Keys(tmp_path / "none")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("", 421),
        ("[", 421),
        ("evil.example@localhost", 421),
        ("localhost/evil.example", 421),
        ("localhost#evil.example", 421),
    ],
)
def test_the_name_that_it_is_called_by(client, host, status):
    assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_another_name_is_allowed(keyed):
    assert keyed.get("/healthz", headers={"Host": "answers.example"}).status_code == 200


def test_pages_of_others_may_not_ask(client):
    own = str(client.base_url).rstrip("/")
    for origin, status in (
        (own, 200),
        ("http://evil.example", 403),
        ("null", 403),
        (own + "1", 403),
        ("http://[", 403),
        ("x", 403),
    ):
        assert client.get("/v1/readers", headers={"Origin": origin}).status_code == status


def test_what_is_packed_is_refused(client):
    packed = gzip.compress(b'{"question": "where is tea grown?"}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = client.post("/v1/answer", content=packed, headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["message"] == (
        "the body is packed (Content-Encoding: gzip); send it as it is"
    )
    plain = {"Content-Encoding": "identity"}
    assert client.post("/v1/search", json={"question": "tea"}, headers=plain).status_code == 200


def test_what_is_too_large_is_not_read(keyed):
    headers = bearer(keyed.key)
    response = keyed.post("/v1/answer", content=b"x" * 2_001, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
    assert response.json()["error"]["values"] == {"most": 2_000}
    # One that doesn't say how long it is.
    response = keyed.post("/v1/answer", content=iter([b"x" * 1_500] * 2), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
    response = keyed.post("/v1/documents", files={"files": ("a.txt", b"x" * 3_000)}, headers=headers)
    assert response.status_code == 413
    # What is as large as it may be is looked at.
    for body in (b"x" * 2_000, iter([b"x" * 1_000] * 2)):
        assert keyed.post("/v1/answer", content=body, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (OverloadedError("full", 1.2), 503, "full"),
        (LateError("late"), 504, "late"),
        (ValueError("of /home/ada"), 500, "the server's log says what"),
        (DataError("/home/ada is odd"), 500, "the server's log says what"),
        (ForeignMemoryError("/home/ada: built anew"), 503, "can't be searched at the moment"),
        (CorpusError("/home/ada is away"), 503, "can't be searched at the moment"),
    ],
)
def test_faults_of_the_server(error, status, says):
    response = errors.of(error)
    told = json.loads(response.body)["error"]
    assert (response.status_code, told["type"]) == (status, "server_error")
    assert says in told["message"]
    assert "ada" not in told["message"]
    again = {OverloadedError: "2", CorpusError: "5", ForeignMemoryError: "5"}
    assert response.headers.get("Retry-After") == again.get(type(error))


def test_a_client_that_takes_nothing_is_let_go(keyed):
    """It asks for much at once, and reads none of it."""
    one = f"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {keyed.key}\r\n\r\n"
    url, counted = keyed.base_url, 'fidkit_requests_total{route="unknown",status="408"}'
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((url.host, url.port))
        connection.sendall(one.encode() * 200)
        deadline = time.monotonic() + 5
        while counted not in (told := keyed.get("/metrics", headers=bearer(keyed.key)).text):
            assert time.monotonic() < deadline, told
            time.sleep(0.1)


def test_a_body_that_doesn_t_come(keyed):
    head = f"POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {keyed.key}\r\n"
    begun = time.monotonic()
    came = raw(
        keyed,
        f"{head}Content-Length: 100\r\nConnection: close\r\n\r\n{{".encode(),
    )
    assert b" 408 " in came.split(b"\r\n")[0]
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_a_head_that_doesn_t_come(keyed, sent):
    begun = time.monotonic()
    assert raw(keyed, sent) == b""
    assert 0.4 < time.monotonic() - begun < 4


def test_a_head_that_trickles_and_one_behind_an_answer(keyed):
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    url = keyed.base_url
    for first in (b"", head + b"\r\n"):
        with socket.create_connection((url.host, url.port), timeout=5) as connection:
            connection.sendall(first)
            if first:
                assert b" 200 " in connection.recv(65536)
            begun = time.monotonic()
            with pytest.raises(OSError, match=r"reset|[Bb]roken|abort"):  # noqa: PT012
                for n in range(200):
                    connection.sendall(head if n == 0 else b"X-%d: 1\r\n" % n)
                    time.sleep(0.05)
            assert 0.4 < time.monotonic() - begun < 4


def test_what_can_be_got_has_a_head(keyed, client):
    for path in ("/healthz", "/", "/v1/readers", "/openapi.json", "/v1/documents/events"):
        got = client.head(path)
        assert (got.status_code, got.content) == (200, b"")
        assert "Content-Security-Policy" in got.headers
    assert client.head("/nothing").status_code == 404
    assert client.head("/v1/answer").status_code == 405
    assert keyed.head("/v1/readers").status_code == 401
    assert int(client.head("/healthz").headers["Content-Length"]) == len(client.get("/healthz").content)


def test_a_method_that_a_route_doesn_t_have(client):
    for path, has in (
        ("/healthz", "GET, HEAD"),
        ("/v1/documents", "GET, POST, HEAD"),
        ("/v1/documents/a.txt", "DELETE"),
        ("/v1/answer", "POST"),
    ):
        response = client.put(path)
        assert (response.status_code, response.headers["Allow"]) == (405, has)
        error = response.json()["error"]
        assert error["code"] == "method_not_allowed"
        verb = "are" if "," in has else "is"
        assert error["message"] == f"PUT isn't taken at {path}; {has} {verb}"


def test_a_path_where_nothing_is(client):
    for path in ("/v1/nothing here", "/mcp/nothing here"):
        error = client.get(path).json()["error"]
        assert (error["code"], error["param"]) == ("not_found", None)
        assert error["message"] == f"there is nothing at {path}; /api lists what there is"
    assert client.get("/api").status_code == 200


def test_what_is_no_http(client):
    assert b" 400 " in raw(client, b"\x16\x03\x01 hello\r\n\r\n").split(b"\r\n")[0]
    assert client.get("/healthz").status_code == 200


def test_headers_against_markup(client):
    headers = client.get("/healthz").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_audit_says_who_and_never_what(keyed, caplog):
    caplog.set_level("INFO", "fidkit_audit")
    asked = {"question": "where is tea grown?"}
    answered = keyed.post("/v1/answer", json=asked, headers=bearer(keyed.key))
    refused = keyed.get("/v1/readers")

    def said_of(response):
        """Its line of the log, which is written behind the response."""
        request, deadline = response.headers["X-Request-Id"], time.monotonic() + 5
        while time.monotonic() < deadline:
            lines = [r.getMessage() for r in caplog.records if r.name == "fidkit_audit"]
            if found := [line for line in lines if line.startswith(request)]:
                return found
            time.sleep(0.01)
        return []

    (of_answered,), (of_refused,) = said_of(answered), said_of(refused)
    assert "POST /v1/answer 200" in of_answered
    assert of_answered.endswith(" ada")
    assert "/v1/readers 401" in of_refused or "unknown 401" in of_refused
    assert of_refused.endswith(" -")
    assert "tea" not in caplog.text
    assert keyed.key not in caplog.text


def test_a_client_that_leaves_gives_its_place(folder):
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with running(folder, limits=SMALL) as client:
        scheduler = client.service.scheduler
        long = {"question": ["where is tea grown?"] * 8, "passages": 3, "test_evidence": 3}
        with httpx.Client(base_url=client.base_url) as leaving, pytest.raises(httpx.ReadTimeout):
            leaving.post("/v1/answer", json=long, timeout=0.05)
        deadline = time.monotonic() + 5
        while (scheduler.waiting or scheduler.running) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (scheduler.waiting, scheduler.running) == (0, 0)


def test_a_server_that_is_stuck_says_so(folder, monkeypatch):
    with running(folder) as client:
        monkeypatch.setattr(state, "STUCK_SECONDS", -1.0)
        stuck = client.get("/readyz")
        assert (stuck.status_code, stuck.json()["status"]) == (503, "stuck")
        monkeypatch.undo()
        assert client.get("/readyz").status_code == 200


def test_a_full_queue_says_when_to_come_again(folder):
    with running(folder, limits=SMALL) as client:
        response = client.post("/v1/answer", json={"question": ["where is tea grown?"] * 9})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert "8 may" in response.json()["error"]["message"]
        assert client.post("/v1/answer", json={"question": "where is tea grown?"}).status_code == 200
