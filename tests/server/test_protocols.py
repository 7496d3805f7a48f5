"""What other people's clients speak: OpenAI's and MCP by their own clients."""

import json
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import parse_qs, quote

import anyio
import pytest

from fidkit.server.cited import cited
from fidkit.server.limits import Limits
from fidkit.server.routes.openai import asking
from fidkit.types import Answer, Evidence, Passage
from served import running

openai = pytest.importorskip("openai")
mcp = pytest.importorskip("mcp")

QUESTION = "who is the harbour master of Ringsend?"
ANSWER = "Aoife Brennan"
CHAT = "chat/completions"
MUST = {"type": "allowed_tools", "mode": "required"}
SAID = [{"role": "user", "content": "a"}]


@pytest.fixture
def sdk(client):
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def shown(client, url):
    """What a citation's link has the page mark."""
    page, _, link = url.partition("#")
    assert page == f"{str(client.base_url).rstrip('/')}/"
    [source], [answer] = map(parse_qs(link).get, ("source", "answer"))
    passage = client.get(f"/v1/passages/{quote(source, safe='')}").json()
    start, end = (int(character) - passage["span"][0] for character in answer.split("-"))
    return passage["text"][start:end]


def test_models(sdk):
    assert [model.id for model in sdk.models.list()] == ["pocket", "pocket:sources"]
    assert sdk.models.retrieve("pocket").owned_by == "fidkit"


def test_a_chat(sdk, client):
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "where is tea grown?"},
        {"role": "assistant", "content": "Kenya"},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    done = sdk.chat.completions.create(model="pocket", messages=messages, temperature=0.7, max_tokens=2000)
    [choice] = done.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    citation = choice.message.annotations[0].url_citation
    assert choice.message.content[citation.start_index : citation.end_index] == ANSWER
    assert (citation.title, shown(client, citation.url)) == ("harbour.txt", ANSWER)
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
    assert done.evidence[0]["source"] == "harbour.txt:0-84"
    assert done.metrics["generation_time_ms"] > 0


def test_a_chat_that_is_streamed(sdk):
    chunks = list(
        sdk.chat.completions.create(
            model="pocket",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ANSWER
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    noted = [delta.annotations for delta in deltas if hasattr(delta, "annotations")]
    assert noted[0][0]["url_citation"]["title"] == "harbour.txt"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0
    assert len({c.id for c in chunks}) == 1


def test_an_answer_is_as_long_as_it_may_be(sdk):
    messages = [{"role": "user", "content": QUESTION}]
    for limit in ({"max_tokens": 1}, {"max_completion_tokens": 1}):
        done = sdk.chat.completions.create(model="pocket", messages=messages, **limit)
        assert done.guess != ANSWER
        assert done.choices[0].finish_reason == "length"
        assert done.notes == ["the answer was cut after 1 token; a larger max_tokens goes on"]
        chunks = list(sdk.chat.completions.create(model="pocket", messages=messages, stream=True, **limit))
        assert chunks[-1].choices[0].finish_reason == "length"
    done = sdk.responses.create(model="pocket", input=QUESTION, max_output_tokens=1)
    assert done.output_text != ANSWER
    assert (done.status, done.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [message.status for message in done.output] == ["incomplete"]
    with sdk.responses.stream(model="pocket", input=QUESTION, max_output_tokens=1) as stream:
        events = list(stream)
    assert events[0].response.incomplete_details is None
    assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "incomplete")


def test_what_the_documents_don_t_say_is_said_and_the_guess_cited(sdk):
    asked = [{"role": "user", "content": "what is the boiling point of mercury?"}]
    done = sdk.chat.completions.create(model="pocket", messages=asked)
    [choice] = done.choices
    assert choice.message.content.startswith("The documents don't seem to say.")
    for one in choice.message.annotations:
        place = one.url_citation
        assert choice.message.content[place.start_index : place.end_index] == done.guess


def test_clients_may_ask_for_more_room_than_there_is():
    service = SimpleNamespace(limits=Limits())
    assert asking(service, QUESTION, "pocket", 100_000, "messages").decoding.max_tokens == 256


def test_the_first_reader_is_the_default(folder):
    with running(folder, readers={"second": "pocket", "first": "pocket"}) as client:
        readers = client.get("/v1/readers").json()["readers"]
        assert [(one["name"], one["default"]) for one in readers] == [("second", True), ("first", False)]
        request = {"messages": [{"role": "user", "content": QUESTION}]}
        assert client.post("/v1/chat/completions", json=request).json()["model"] == "second"


def test_sources_in_the_text(sdk):
    done = sdk.chat.completions.create(
        model="pocket:sources", messages=[{"role": "user", "content": QUESTION}]
    )
    answer, listed = done.choices[0].message.content.split("\n\n")
    assert answer == ANSWER
    assert listed.startswith("1. [harbour.txt](http://127.0.0.1:")
    assert listed.endswith("): The harbour master of Ringsend is Aoife Brennan.")


def test_a_link_has_any_name_of_a_document():
    name = "a & b+c (1)#?%20.md"
    evidence = Evidence(Passage("1", "", "ink", f"{name}:10-13"), 1.0, (0, 3), (10, 13), "ink")
    [citation] = cited(Answer("ink", 0.0, (evidence,)), "http://here").citations
    page, _, link = citation["url"].partition("#")
    assert page == "http://here/"
    assert parse_qs(link) == {"source": [f"{name}:10-13"], "answer": ["10-13"]}
    assert not set("() ") & set(link)  # it ends where Markdown's links end


def test_a_guess_that_is_not_said_is_not_cited():
    evidence = Evidence(Passage("1", "", "ink", "notes.txt:10-13"), 1.0, (0, 3), (10, 13), "ink")
    answer = Answer("", 0.0, (evidence,), guess="ink", confidence=0.2)
    assert len(cited(answer, "http://here", sources=True).citations) == 1
    unsaid = cited(replace(answer, confidence=0.001), "http://here", sources=True)
    assert (unsaid.text, unsaid.citations) == ("The documents don't seem to say.", ())


def test_characters_of_a_passage_that_has_no_document_are_not_linked_to():
    evidence = Evidence(Passage("1", "", "ink", "notes.jsonl"), 1.0, (0, 3), (0, 3), "ink")
    [citation] = cited(Answer("ink", 0.0, (evidence,)), "http://here").citations
    assert citation["url"] == "http://here/#source=notes.jsonl"


def test_a_response(sdk, client):
    done = sdk.responses.create(model="pocket", input=QUESTION)
    assert (done.output_text, done.status) == (ANSWER, "completed")
    [annotation, *_] = done.output[0].content[0].annotations
    assert annotation.type == "url_citation"
    assert shown(client, annotation.url) == ANSWER
    assert done.output_text[annotation.start_index : annotation.end_index] == ANSWER


def test_a_response_to_items(sdk):
    items = [
        {"role": "developer", "content": "Answer in verse."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "item_reference", "id": "x", "role": "user", "content": "where is tea grown?"},
    ]
    assert sdk.responses.create(model="pocket", input=items).output_text == ANSWER


def test_a_response_that_is_streamed(sdk):
    with sdk.responses.stream(model="pocket", input=QUESTION) as stream:
        kinds = [event.type for event in stream]
        done = stream.get_final_response()
    assert done.output_text == ANSWER
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.annotation.added" in kinds


@pytest.mark.parametrize(
    ("path", "request_", "status", "says"),
    [
        (CHAT, {"model": "gpt-9", "messages": [{"role": "user", "content": "a"}]}, 404, "one of"),
        (CHAT, {"messages": []}, 422, "messages: expected a length of 1 or more, got an empty list"),
        (CHAT, {"messages": [{"role": "assistant", "content": "a"}]}, 422, "no text of a user"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 422, "image"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 422, "without a text"),
        (CHAT, {"messages": [{"role": "user", "content": "\u200b"}]}, 422, "messages: no text of a user"),
        (CHAT, {"messages": [{"role": "user", "content": "a" * 2001}]}, 422, "2,001"),
        (CHAT, {"messages": SAID, "stream_options": {"include_usage": 1}}, 422, "true or false, got 1"),
        (CHAT, {"messages": SAID, "max_tokens": "5"}, 422, "expected a whole number, got \"5\""),
        ("responses", {"input": "a", "background": 0}, 422, "expected true or false, got 0"),
        (CHAT, {"messages": SAID, "tool_choice": "required"}, 422, "no tools are called"),
        (CHAT, {"messages": SAID, "tool_choice": {"type": "function", "function": {}}}, 422, "'function'"),
        (CHAT, {"messages": SAID, "response_format": {"type": "json_object"}}, 422, "answers are text"),
        ("responses", {"input": ""}, 422, "input: expected a length of 1 or more, got an empty text"),
        ("responses", {"input": [{"type": "reasoning"}]}, 422, "no text of a user"),
        ("responses", {"input": [{"content": [{"type": "image"}]}]}, 422, "input: a part of type 'image'"),
        (CHAT, {"messages": [{"role": 5}]}, 422, "messages.0.role: expected a text, got 5"),
        ("responses", {"input": "a", "previous_response_id": "x"}, 422, "nothing is kept"),
        ("responses", {"input": "a", "background": True}, 422, "nothing is kept"),
        ("responses", {"input": "a", "tool_choice": "required"}, 422, "tool_choice: 'required'"),
        ("responses", {"input": "a", "tool_choice": MUST}, 422, "no tools"),
        ("responses", {"input": "a", "text": {"format": {"type": "json_schema"}}}, 422, "text.format: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(client, path, request_, status, says):
    response = client.post(f"/v1/{path}", json=request_)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, "invalid_request_error")
    assert says in error["message"]


def test_mcp_over_http(client):
    async def talk():
        async with mcp.Client(f"{client.base_url}/mcp/") as session:
            tools = {tool.name for tool in (await session.list_tools()).tools}
            answer = await session.call_tool("answer", {"question": QUESTION})
            found = await session.call_tool("search", {"question": "tea", "passages": 1})
            read = await session.call_tool("read", {"source": "harbour.txt:34-47"})
            none = {"question": QUESTION, "where": ["kind=pdf"]}
            wrong = [
                await session.call_tool(tool, request)
                for tool in ("answer", "search")
                for request in ({"question": " "}, none)
            ]
            wrong.append(await session.call_tool("search", {"question": "", "passages": 1}))
            wrong.append(await session.call_tool("search", {"question": "tea", "passages": 101}))
            return tools, answer, found, read, wrong

    tools, answer, found, read, wrong = anyio.run(talk)
    can_add = client.get("/v1/documents").json()["can_add"]
    assert tools == {"answer", "search", "read"} | ({"add"} if can_add else set())
    assert answer.structured_content["answer"] == ANSWER
    assert found.structured_content["passages"][0]["source"].startswith("tea.md")
    assert read.structured_content["text"] == ANSWER
    assert all(one.is_error for one in wrong)
    *told, empty, beyond = [one.content[0].text for one in wrong]
    assert "it is empty" in empty
    assert "takes 100 at most" in beyond
    assert ["it is empty" in text for text in told] == [True, False] * 2
    assert ["no document has kind=.pdf" in text for text in told] == [False, True] * 2
    assert "/" not in "".join(told)


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("answer", {}, "answer: question: it is missing; add it"),
        ("answer", {"question": 5}, "answer: question: expected a text, got 5"),
        ("search", {"question": "a", "passages": "many"}, 'passages: expected a whole number, got "many"'),
        ("search", {"question": "a", "k": 5}, "unknown argument 'k'; expected question, passages, where"),
        ("ask", {"question": "a"}, "no tool 'ask' here; expected one of answer, search, read"),
    ],
)
def test_mcp_says_what_is_wrong_with_arguments(client, tool, arguments, says):
    called = {"name": tool, "arguments": arguments}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
    said = client.post("/mcp/", json=asked, headers={"Accept": "application/json"}).json()["result"]
    assert said["isError"]
    [told] = [one["text"] for one in said["content"]]
    assert says in told
    assert "pydantic" not in told


@pytest.mark.parametrize("body", ["[]", "null", '{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}'])
def test_mcp_says_what_is_no_message(client, body):
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    response = client.post("/mcp/", content=body, headers=headers)
    assert response.status_code == 400
    said = response.json()["error"]
    assert said["code"] == -32602
    assert said["message"].startswith(
        "the body is no message of JSON-RPC; expected one JSON object, such as "
    )


def test_mcp_asks_for_its_tools_once(client, monkeypatch):
    counted = []
    asking = mcp.server.MCPServer.list_tools

    async def counting(self):
        counted.append(self)
        return await asking(self)

    monkeypatch.setattr(mcp.server.MCPServer, "list_tools", counting)
    called = {"name": "search", "arguments": {"question": "tea", "passages": 1}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
    for _ in range(3):
        client.post("/mcp/", json=asked, headers={"Accept": "application/json"}).raise_for_status()
    assert len(counted) <= 1


def test_mcp_has_no_prompts(client, caplog):
    asked = {"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "a"}}
    said = client.post("/mcp/", json=asked, headers={"Accept": "application/json"}).json()["error"]
    assert (said["code"], said["message"]) == (
        -32602,
        "no prompt 'a' here; there are tools alone, see tools/list",
    )
    assert not caplog.records


@pytest.mark.parametrize("choice", ["auto", "none", {"type": "allowed_tools", "mode": "auto", "tools": []}])
def test_tools_that_need_not_be_called_are_left_alone(sdk, choice):
    tools = [{"type": "function", "name": "weather", "parameters": {}}]
    done = sdk.responses.create(
        model="pocket", input=QUESTION, tools=tools, tool_choice=choice, text={"format": {"type": "text"}}
    )
    assert done.output_text == ANSWER


def test_events_end_with_the_answer(client):
    """Numbered from 0, of the type that their name says, and the mark of the end behind them."""
    request = {"model": "pocket", "input": QUESTION, "stream": True}
    sent = client.post("/v1/responses", json=request).text
    *told, end, rest = sent.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    records = [(one.split("\n")[0], json.loads(one.split("\n")[1].removeprefix("data: "))) for one in told]
    assert [record["sequence_number"] for _, record in records] == list(range(len(records)))
    assert all(name == f"event: {record['type']}" for name, record in records)
    assert records[-1][1]["response"]["status"] == "completed"
