"""`fidkit serve` and `fidkit mcp` as commands: how they start, what they refuse, how they end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import anyio
import httpx
import pytest

from fidkit import assets
from fidkit.cli.app import run
from fidkit.errors import UNREAD, UsageError
from fidkit.server.keys import add
from fidkit.server.readers import by_name

mcp = pytest.importorskip("mcp")


@contextmanager
def started(*arguments):
    """A command that runs; it ends with the test, however that goes."""
    with subprocess.Popen(
        [sys.executable, "-m", "fidkit", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as made:  # fmt: skip
        try:
            yield made
        finally:
            made.kill()


def test_it_says_where_it_is_and_ends_when_asked(folder):
    with started("serve", folder, "--port", 0) as server:
        url = server.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        response = httpx.post(f"{url}/v1/answer", json={"question": "where is tea grown?"}, timeout=30)
        assert response.json()["guess"] == "Kenya"
        assert "server" not in response.headers
        server.send_signal(signal.SIGINT)
        said = server.stderr.read()
        assert server.wait(20) in (0, 130)
    assert "3 passages, reader pocket" in said
    assert "questions a second" in said
    assert said.splitlines()[-1].startswith("note: 3 passages, ")  # and nothing of requests


def test_who_waits_is_told_of_an_end(folder):
    """Answers that are being read are given, the others are refused so that clients ask again."""
    with started("serve", folder, "--port", 0) as server:
        url = server.stdout.readline().strip()

        given = [{"text": f"Tea is grown in Kenya, as {n} people say. " * 8} for n in range(8)]

        def ask(number):
            # Seconds of work, of which a part alone is read side by side. Callers take turns: the last, who
            # asks little, has its answer long before the others.
            asked = {
                "question": [f"where is tea grown, {number}?"] * (8 if number < 11 else 1),
                "passages": given,
                "test_evidence": 8,
            }
            return httpx.post(f"{url}/v1/answer", json=asked, timeout=30)

        with ThreadPoolExecutor(12) as pool:
            asking = [pool.submit(ask, number) for number in range(12)]
            while not any(one.done() for one in asking):
                time.sleep(0.005)
            server.send_signal(signal.SIGTERM)
            responses = [one.result() for one in asking]
        said = server.stderr.read()
        assert server.wait(20) == 128 + signal.SIGTERM
    refused = [response for response in responses if response.status_code != 200]
    assert refused
    assert len(refused) < 12
    for response in refused:
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert "stopping" in response.json()["error"]["message"]
    assert said.splitlines()[-1].startswith("note: 3 passages, ")


def test_who_listens_is_told_of_an_end(folder):
    """Pages that listen to events, and answers that are being streamed."""
    with started("serve", folder, "--port", 0) as server:
        url = server.stdout.readline().strip()
        begun = threading.Barrier(7)

        def listen(number):
            given = [{"text": f"Tea is grown in Kenya, as {n} people say. " * 8} for n in range(8)]
            asked = {"question": f"where is tea grown, {number}?", "passages": given, "test_evidence": 8}
            events, answer = ("GET", f"{url}/v1/documents/events"), ("POST", f"{url}/v1/answer")
            method, path = events if number < 3 else answer
            body = None if number < 3 else {**asked, "stream": True}
            with httpx.stream(method, path, json=body, timeout=30) as response:
                lines = response.iter_lines()
                first = next(lines)
                begun.wait(20)
                return [first, *lines]

        with ThreadPoolExecutor(6) as pool:
            listening = [pool.submit(listen, number) for number in range(6)]
            begun.wait(20)
            server.send_signal(signal.SIGINT)
            said = server.stderr.read()
            heard = [one.result() for one in listening]
        assert server.wait(20) in (0, 130)
    assert said.splitlines()[-1].startswith("note: 3 passages, ")
    for lines in heard[3:]:
        assert [line for line in lines if line.startswith("event:")][-1] in ("event: answer", "event: error")


def test_keys_another_name_a_reader_s_name_and_an_audit(tmp_path):
    (folder := tmp_path / "documents").mkdir()
    (folder / "tea.txt").write_text("Tea is grown in Kenya.")
    (folder / "tea.png").write_bytes(b"")
    key = add(tmp_path / "keys", "ada")
    options = {"keys": tmp_path / "keys", "allow-host": "Answers.Example", "audit": tmp_path / "audit",
               "reader": "mine=pocket", "port": 0}  # fmt: skip
    with started("serve", folder, *(f"--{name}={value}" for name, value in options.items())) as server:
        url = server.stdout.readline().strip()
        named = {"Host": "answers.example"}
        assert httpx.get(f"{url}/v1/readers", headers=named).status_code == 401
        named["Authorization"] = f"Bearer {key}"
        [reader] = httpx.get(f"{url}/v1/readers", headers=named).json()["readers"]
        assert reader["name"] == "mine"
        server.send_signal(signal.SIGINT)
        said = server.stderr.read()
    assert "reader mine, " in said
    assert ", with keys; " in said
    assert "note: 1 of 2 files were left out" in said
    refused, told = (tmp_path / "audit").read_text().splitlines()
    assert " GET unknown 401 " in refused
    assert " GET /v1/readers 200 " in told
    assert told.endswith(" ada")


@pytest.mark.parametrize("name", ["answers.example:8080", "http://answers.example", "a b"])
def test_names_that_can_t_be_called_by(name, capsys, folder):
    assert run(["serve", str(folder), "--port", "0", "--allow-host", name]) == 2
    assert "expected a name such as answers.example, without a port" in capsys.readouterr().err


def test_names_are_compared_in_small_letters(folder):
    with started("serve", folder, "--port", 0, "--allow-host", "Answers.Example") as server:
        url = server.stdout.readline().strip()
        for host, status in (("ANSWERS.example:1", 200), ("other.example", 421)):
            assert httpx.get(f"{url}/healthz", headers={"Host": host}).status_code == status
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "lets other machines ask; give --keys FILE"),
        (["--host", "127.0.0.2"], "lets other machines ask; give --keys FILE"),
        (["--host", "0.0.0.0", "--keys", "none"], "fidkit keys add NAME --to none"),
        (["--port", "70000"], "--port is 70000; expected 1 to 65535"),
        (["--port", "0", "--host", "nowhere.invalid", "--keys", "keys"], "no such address"),
        (["--reader", "pocket", "--reader", "pocket"], "another one called pocket"),
        (["--reader", "a="], "expected a reader, or NAME=READER"),
        (["nowhere"], "nowhere"),
        ([""], "'' is no path"),
        (["--reader", "nobody"], "nobody"),
        (["--audit", "no/where", "--port", "0"], "--audit no/where: can't be written"),
    ],
)
def test_what_is_refused(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text("")
    assert run(["serve", *arguments]) in (1, 2)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert says in line


def test_mcp_with_a_reader_that_is_none(capsys, folder):
    assert run(["mcp", str(folder), "--reader", "nobody"]) in (1, 2)
    assert "nobody" in capsys.readouterr().err


def test_a_port_that_is_in_use(capsys, folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["serve", str(folder), "--port", str(port)]) == 2
    assert f"--port {port} is in use on 127.0.0.1; give another, or 0" in capsys.readouterr().err


def test_without_the_extra_the_command_is_named():
    script = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['mcp'] = None\n"
        "from fidkit.cli.app import run; print(run(['serve']), run(['mcp']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "2"]
    assert done.stderr.count("pip install 'fidkit[serve]'") == 2


def test_a_key_is_shown_once(capsys, tmp_path):
    assert run(["keys", "add", "ada", "--to", str(tmp_path / "keys")]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("fk-")
    assert key not in (tmp_path / "keys").read_text()


def test_readers_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b" / "last").mkdir(parents=True)
    assert by_name(["pocket", "some/where/mine/", "x=pocket", "a=b/last", "."]) == {
        "pocket": "pocket", "mine": "some/where/mine/", "x": "pocket", "last": "a=b/last", tmp_path.name: ".",
    }  # fmt: skip
    for given in ("", "=pocket", "x="):
        with pytest.raises(UsageError, match="NAME=READER"):
            by_name([given])


INITIALIZE = {
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a", "version": "1"},
    },
}
INITIALIZED = {"method": "notifications/initialized"}


def call(tool, **arguments):
    return {"method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def piped(folder, *requests, to=subprocess.PIPE):
    """`fidkit mcp`, which all requests are piped into; a record has its number as its id."""
    lines = []
    for number, one in enumerate(requests):
        if isinstance(one, dict):
            named = {} if one["method"].startswith("notifications/") else {"id": number}
            one = json.dumps({"jsonrpc": "2.0", **named, **one})
        lines.append(one)
    return subprocess.run(
        [sys.executable, "-m", "fidkit", "mcp", str(folder)],
        input="\n".join(lines), stdout=to, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip


def test_mcp_answers_what_was_asked_before_stdin_was_closed(folder):
    done = piped(
        folder, INITIALIZE, INITIALIZED,
        call("answer", question="where is tea grown?"),
        call("answer", question="who built the mill?"),
        call("search", question="tea", passages=1),
        {"method": "notifications/cancelled", "params": {"requestId": "3"}},
        " ", "tea",
    )  # fmt: skip
    said = [json.loads(line) for line in done.stdout.splitlines()]
    told = {one["id"]: one.get("result") for one in said}
    assert set(told) == {0, 2, 4, None}  # 3 was cancelled, which is no reason to wait
    assert told[2]["structuredContent"]["answer"] == "Kenya"
    assert "Kenya" in told[4]["structuredContent"]["passages"][0]["text"]
    [wrong] = [one["error"]["message"] for one in said if one["id"] is None]  # and none of an empty line
    assert "expected one JSON object a line" in wrong
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("note: 3 passages; ")


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (call("search", question="tea"), "tools/call came before the session was begun; send `initialize`"),
        ({"method": "initialize", "params": {}}, "; params.protocolVersion: it is missing; add it"),
    ],
)
def test_mcp_says_how_a_session_is_begun(folder, request_, says):
    [line] = piped(folder, request_).stdout.splitlines()
    assert says in json.loads(line)["error"]["message"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_mcp_whose_answers_go_nowhere(folder):
    with open("/dev/full", "w") as full:
        done = piped(folder, INITIALIZE, to=full)
    assert done.returncode == 1
    assert "error: results can't be written to stdout (No space left on device)" in done.stderr
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        done = piped(folder, INITIALIZE, to=gone)
    assert done.returncode == UNREAD
    assert "error" not in done.stderr


def test_mcp_over_stdin_and_stdout(folder, tmp_path):
    """What is added is answered from, and another reader that is put in the place of the first answers."""
    reader = shutil.copytree(assets.reader("pocket"), tmp_path / "reader")
    (shutil.copytree(reader, tmp_path / "other") / "calibration.json").unlink()

    async def talk():
        parameters = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "fidkit", "mcp", str(folder), "--reader", str(reader)],
            env=dict(os.environ),
        )
        async with mcp.Client(mcp.stdio_client(parameters)) as session:

            async def until(holds):
                for _ in range(100):
                    done = await session.call_tool("answer", {"question": "who keeps the lamp?"})
                    if holds(done.structured_content):
                        return done.structured_content
                    await anyio.sleep(0.1)
                raise AssertionError(done)

            await session.call_tool("add", {"name": "light.txt", "text": "The lamp is kept by Nora Fahy."})
            added = await until(lambda answer: answer["guess"] == "Nora Fahy")
            reader.rename(tmp_path / "before")
            reader.with_name("other").rename(reader)
            # Without a calibration, confidence is another.
            await until(lambda answer: answer["confidence"] != added["confidence"])
            return added

    answer = anyio.run(talk)
    assert answer["evidence"][0]["source"].startswith("light.txt")
    assert answer["reader"] == "reader"  # and not its place
