"""`/v1/answer` and `/v1/search`, asked as a client does."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from fidkit.server.asking import asked
from fidkit.server.errors import RequestError
from fidkit.server.limits import Limits
from fidkit.server.schemas import AnswerRequest
from served import running
from sse import events

ASKED = {
    "who is the harbour master of Ringsend?": "Aoife Brennan",
    "where is tea grown?": "Kenya",
    "who built the mill at Ardgath?": "Tomas Quill",
}


def answer(client, **request):
    response = client.post("/v1/answer", json=request)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_answer_with_its_place(client):
    found = answer(client, question="who is the harbour master of Ringsend?", passages=3)
    assert found["answer"] == found["guess"] == "Aoife Brennan"
    first = found["evidence"][0]
    assert (first["source"], first["span"]) == ("harbour.txt:0-84", [34, 47])
    assert first["sentence"] == "The harbour master of Ringsend is Aoife Brennan."
    assert list(found["timings_ms"]) == [
        *("search", "queue", "tokenize", "encode", "decode", "evidence", "total"),
    ]
    parts = [ms for stage, ms in found["timings_ms"].items() if stage != "total"]
    assert sum(parts) <= found["timings_ms"]["total"] * 1.01


def test_several_questions_keep_their_order(client):
    found = answer(client, question=list(ASKED), passages=2)
    assert [(a["question"], a["guess"]) for a in found["answers"]] == list(ASKED.items())


def test_many_callers_get_their_own_answers(client):
    def ask(n):
        question, expected = list(ASKED.items())[n % len(ASKED)]
        return answer(client, question=question, passages=2)["guess"] == expected

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(48)))


def test_passages_of_the_callers_own(client):
    given = [{"id": "x", "title": "Lamp", "text": "The lamp of the tower was lit by Oisin Daly in 1902."}]
    found = answer(client, question="who lit the lamp of the tower?", passages=given)
    assert found["guess"] == "Oisin Daly"
    assert [e["id"] for e in found["evidence"]] == ["x"]
    assert "search" not in found["timings_ms"]


def test_evidence_is_tested(client):
    found = answer(client, question="where is tea grown?", passages=3, test_evidence=1)
    first, *others = found["evidence"]
    assert first["without"]["answer"] != "Kenya"
    assert first["without"]["score"] < found["score"]
    assert all(other["without"] is None for other in others)


def test_an_answer_is_streamed(client):
    request = {"question": "who is the harbour master of Ringsend?", "passages": 3, "stream": True}
    with client.stream("POST", "/v1/answer", json=request) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen = list(events(response))
    names = [name for name, _ in seen]
    assert names[0] == "passages"
    assert names[-1] == "answer"
    assert set(names[1:-1]) == {"text"}
    assert seen[0][1]["passages"][0]["source"] == "harbour.txt:0-84"
    assert seen[-2][1]["text"] == seen[-1][1]["answer"] == "Aoife Brennan"
    whole = answer(client, question=request["question"], passages=3)
    assert {**seen[-1][1], "timings_ms": 0} == {**whole, "timings_ms": 0}


def test_a_fault_in_a_stream_is_its_last_event(client):
    request = {"question": "tea?", "where": ["kind=pdf"], "stream": True}
    with client.stream("POST", "/v1/answer", json=request) as response:
        [(name, record)] = list(events(response))
    assert name == "error"
    assert record["error"]["message"].startswith("where: no document has")
    assert record["error"]["code"] == "not_found"


def test_passages_are_found(client):
    found = client.post("/v1/search", json={"question": ["tea", "the mill"], "passages": 1}).json()
    assert [(r["question"], r["hits"][0]["source"].split(":")[0]) for r in found["results"]] == [
        ("tea", "tea.md"),
        ("the mill", "mill.txt"),
    ]


def test_documents_are_filtered(client):
    found = client.post("/v1/search", json={"question": "the", "where": ["source=mill.txt"]}).json()
    assert {hit["source"].split(":")[0] for hit in found["results"][0]["hits"]} == {"mill.txt"}
    none = client.post("/v1/search", json={"question": "the", "where": ["source=nothing.txt"]})
    assert none.status_code == 404
    assert "/" not in none.json()["error"]["message"]


@pytest.mark.parametrize(
    ("request_", "status", "param", "says"),
    [
        ({}, 422, "question", "question: it is missing; add it; /api describes"),
        ({"question": ""}, 422, "question", "1 or more characters or a list, got an empty text"),
        ({"question": "  "}, 422, "question", "empty"),
        ({"question": []}, 422, "question", "an empty list"),
        ({"question": 5}, 422, "question", "expected a text or a list, got 5; /api describes"),
        ({"question": "a" * 2001}, 422, "question", "2,001 characters of a question"),
        ({"question": ["a"] * 65}, 422, "question", "65 questions"),
        ({"question": "a", "passages": 0}, 422, "passages", "expected 1 or more"),
        ({"question": "a", "passages": 101}, 422, "passages", "101 passages"),
        ({"question": "a", "passages": [{"text": "x" * 20_001}]}, 422, "passages", "20,001 characters"),
        ({"question": "a", "passages": [{"text": ""}]}, 422, "passages.0.text", "expected a text of 1"),
        ({"question": "a", "test_evidence": 21}, 422, "test_evidence", "21 passages to be left out"),
        ({"question": "a", "max_tokens": 257}, 422, "max_tokens", "257 tokens"),
        ({"question": "a", "max_tokens": 0}, 422, "max_tokens", "expected 1 or more, got 0"),
        ({"question": "a", "reader": "nobody"}, 422, "reader", "no reader 'nobody' is served"),
        ({"question": "a", "where": ["colour"]}, 422, "where", "colour"),
        ({"question": "a", "colour": 1}, 422, "colour", "unknown field 'colour' (known: question, passages,"),
        ({"question": ["a"], "stream": True}, 422, "stream", "one question"),
        ({"question": "a", "stream": "yes"}, 422, "stream", "expected true or false, got \"yes\""),
        ([1], 422, "body", "body: expected keys and values, got a list of 1; /api describes"),
        (
            {"question": 1, "passages": "a", "stream": 2, "colour": 3, "where": 4}, 422, "question",
            "; where: expected a list, got 4; and 2 other fields; /api describes",
        ),
        ({"question": "a", "stream": True, "reader": "nobody"}, 422, "reader", "no reader 'nobody'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(client, request_, status, param, says):
    response = client.post("/v1/answer", json=request_)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert says in error["message"]


def test_a_search_says_which_field_is_wrong(client):
    response = client.post("/v1/search", json={"question": "a", "where": ["colour"]})
    assert (response.status_code, response.json()["error"]["param"]) == (422, "where")


def test_what_is_just_within_the_limits_is_taken():
    limits = Limits(question_characters=5, passages=2, passage_characters=4, tests=2, answer_tokens=8)
    most = {"question": "a" * 5, "passages": 2, "test_evidence": 2, "max_tokens": 8}
    [made] = asked(AnswerRequest.model_validate(most), limits)
    assert (made.k, made.given, made.test_evidence, made.decoding.max_tokens) == (2, None, 2, 8)
    given = [{"text": "abc", "title": "d"}] * 2
    [made] = asked(AnswerRequest.model_validate({**most, "passages": given}), limits)
    assert [one.id for one in made.given] == ["1", "2"]
    [made] = asked(AnswerRequest.model_validate({**most, "passages": []}), limits)
    assert made.given == []
    for beyond in (given * 2, [{"text": "abc", "title": "de"}]):
        with pytest.raises(RequestError, match="this server takes"):
            asked(AnswerRequest.model_validate({**most, "passages": beyond}), limits)


def test_what_was_asked_and_answered_is_counted(folder):
    with running(folder) as client:
        answer(client, question="where is tea grown?", passages=3)
        answer(client, question="what is the boiling point of mercury?", passages=3)
        client.get("/nothing")
        said = client.get("/metrics").text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in said if not line.startswith("#"))
    assert told['fidkit_requests_total{route="/v1/answer",status="200"}'] == "2.0"
    assert told['fidkit_requests_total{route="unknown",status="404"}'] == "1.0"
    answers = [told[f'fidkit_answers_total{{kind="{kind}"}}'] for kind in ("given", "withheld")]
    assert answers == ["1.0", "1.0"]
    assert 0 < float(told['fidkit_stage_seconds_sum{stage="encode"}']) < 10
    assert told["fidkit_questions_running"] == told["fidkit_questions_waiting"] == "0.0"


def test_a_question_that_may_take_no_time_is_refused(folder):
    with running(folder, limits=Limits(seconds=0.0)) as client:
        assert client.post("/v1/answer", json={"question": "where is tea grown?"}).status_code == 503


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"question": "\\ud800"}', b"[" * 100_000])
def test_what_is_no_json_of_ours(client, body):
    response = client.post("/v1/answer", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    message = response.json()["error"]["message"]
    assert response.status_code == 422 or message.startswith("the body can't be read as JSON: ")
    assert not _PYDANTICS.search(message), message


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"question": "caf\xe9"}', "it isn't UTF-8 at byte 17"),
        (b'{"a":' * 5_000, "it is nested too deeply"),
        (b'{"passages": ' + b"9" * 5_000 + b"}", "a number in it has too many digits"),
    ],
)
def test_why_a_body_can_t_be_read(client, body, why):
    response = client.post("/v1/answer", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"the body can't be read as JSON: {why}; mend it there"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("answer", '{"question": "\\ud800"}'),
        ("answer", '{"question": "a", "where": ["author=\\ud800"]}'),
        ("answer", '{"question": "a", "reader": "\\ud800"}'),
        ("answer", '{"question": "a", "passages": [{"text": "b", "title": "\\ud800"}]}'),
        ("answer", '{"question": "a", "passages": [{"text": "b", "id": "\\ud800"}]}'),
        ("search", '{"question": "a", "where": ["author=\\ud800"]}'),
        ("chat/completions", '{"messages": [{"role": "user", "content": "\\ud800"}]}'),
        ("chat/completions", '{"model": "\\ud800", "messages": [{"role": "user", "content": "a"}]}'),
        ("responses", '{"input": "\\ud800"}'),
    ],
)
def test_half_characters_are_refused(client, path, body):
    response = client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text


def test_a_body_that_is_no_json_says_so(client):
    body = '{"question": "who?"}'
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        error = client.post("/v1/answer", content=body, headers=headers).json()["error"]
        assert error["message"].endswith("send it with the header Content-Type: application/json")
    broken = client.post("/v1/answer", content=body[:-1], headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    assert broken.json()["error"]["message"].startswith("the body is no JSON: ")
    assert broken.json()["error"]["message"].endswith(f"at character {len(body) - 1}; mend it there")


_PYDANTICS = re.compile(
    r"Input should|Field required|Extra inputs|Value error|should have|valid (string|integer|list)|UploadFile"
)


@pytest.mark.parametrize("path", ["answer", "search", "chat/completions", "responses"])
def test_no_field_of_a_wrong_kind_is_answered_in_words_of_a_library(client, path):
    described = client.get("/openapi.json").json()
    body = described["paths"][f"/v1/{path}"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = described["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    assert len(fields) >= 3
    for field in fields:
        for value in (None, 0, 1.5, True, "", [], [5], [{}], [{"text": 5, "role": 5}], {}, {"a": 5}):
            # Something else is wrong as well, so that nothing is ever answered.
            wrong = {field: value, "stream": "yes"} | ({"stream": value} if field == "stream" else {})
            response = client.post(f"/v1/{path}", json=wrong)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (422, "invalid"), wrong
            assert not _PYDANTICS.search(error["message"]), error["message"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=1001", 'limit: expected 1000 at most, got "1001"'),
        (
            "limit=x&offset=-1",
            'limit: expected a whole number, got "x"; offset: expected 0 or more, got "-1"',
        ),
    ],
)
def test_what_is_wrong_with_an_address_is_said(client, query, says):
    error = client.get(f"/v1/documents?{query}").json()["error"]
    assert error["message"] == f"{says}; /api describes what is taken"
    assert error["param"] == "limit"


def test_a_filter_that_leaves_nothing_is_told_in_a_stream_as_well(client):
    asked = {"question": "a", "where": ["kind=epub"]}
    plain = client.post("/v1/answer", json=asked).json()["error"]
    assert plain["message"].startswith("where: no document has kind=.epub")
    [(name, record)] = events(client.post("/v1/answer", json={**asked, "stream": True}))
    assert (name, record["error"]) == ("error", plain)
