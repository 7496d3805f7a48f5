"""Other people's clients ask one server, or one corpus, the same questions, and say where the answer stands.

    pip install 'fidkit[adapters,serve]' openai
    python examples/clients.py

prints a table: how many answers of each client are right, how many of them name the right document, and the
source of the last. It needs curl as well, and ends with 1 where anything is wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import mcp
import openai

from fidkit import Answerer
from fidkit.evaluate.metrics import exact_match
from fidkit.passages import Passages

FOLDER = Path(__file__).parent / "own-folder"
ASKED = ("own-10", "own-47", "own-50")
"""Of `questions.jsonl`: those that the bundled reader is right about; this is about clients, not about it."""


@dataclass(frozen=True)
class Asked:
    """Where a client asks: the server's address, the folder that it serves, and the same opened here."""

    base: str
    folder: Path
    answerer: Answerer

    @property
    def corpus(self) -> Passages:
        """What the folder holds."""
        assert self.answerer.corpus is not None
        return self.answerer.corpus


Said = tuple[str | None, str]
"""An answer, and its source or the title of its citation."""


def openai_chat(where: Asked, question: str) -> Said:
    """`chat.completions` of the official client."""
    with _sdk(where) as sdk:
        done = sdk.chat.completions.create(model="pocket", messages=[{"role": "user", "content": question}])
    message = done.choices[0].message
    [citation, *_] = message.annotations or []
    return message.content, citation.url_citation.url


def openai_chat_streamed(where: Asked, question: str) -> Said:
    """The same, streamed: annotations come on a delta of their own."""
    text, source = "", ""
    with _sdk(where) as sdk:
        for chunk in sdk.chat.completions.create(
            model="pocket", messages=[{"role": "user", "content": question}], stream=True
        ):
            delta = chunk.choices[0].delta
            text += delta.content or ""
            if noted := getattr(delta, "annotations", None):
                source = noted[0]["url_citation"]["url"]
    return text, source


def openai_responses(where: Asked, question: str) -> Said:
    """`responses` of the official client."""
    with _sdk(where) as sdk:
        done = sdk.responses.create(model="pocket", input=question)
    return done.output_text, _cited(done)


def openai_responses_streamed(where: Asked, question: str) -> Said:
    """The same, streamed."""
    with _sdk(where) as sdk, sdk.responses.stream(model="pocket", input=question) as stream:
        done = stream.until_done().get_final_response()
    return done.output_text, _cited(done)


def curl(where: Asked, question: str) -> Said:
    """The route of our own."""
    command = ["curl", "--silent", "--fail", "--json", json.dumps({"question": question})]
    said = subprocess.run([*command, f"{where.base}/v1/answer"], capture_output=True, check=True, text=True)
    return _of_record(json.loads(said.stdout))


def mcp_http(where: Asked, question: str) -> Said:
    """The tool `answer` over streamable HTTP."""
    return anyio.run(_of_tool, f"{where.base}/mcp/", question)


def mcp_stdio(where: Asked, question: str) -> Said:
    """The same of `fidkit mcp`, over stdin and stdout."""
    command = ["-m", "fidkit", "mcp", str(where.folder)]
    parameters = mcp.StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))
    return anyio.run(_of_tool, mcp.stdio_client(parameters), question)


def haystack(where: Asked, question: str) -> Said:
    """A pipeline of two components: one finds, one reads what was found."""
    from haystack import Pipeline

    from fidkit.adapters.haystack import FidkitAnswerer, FidkitRetriever

    pipeline = Pipeline()
    pipeline.add_component("found", FidkitRetriever(corpus=where.corpus, top_k=20))
    pipeline.add_component("read", FidkitAnswerer(answerer=where.answerer))
    pipeline.connect("found.documents", "read.documents")
    [answer] = pipeline.run({"found": {"query": question}, "read": {"query": question}})["read"]["answers"]
    return answer.data, answer.documents[0].meta["source"]


def langchain(where: Asked, question: str) -> Said:
    """A chain of retriever and runnable."""
    from langchain_core.runnables import RunnablePassthrough

    from fidkit.adapters.langchain import FidkitAnswerer, FidkitRetriever

    found = FidkitRetriever(corpus=where.corpus, k=20)
    chain: Any = {"input": RunnablePassthrough(), "context": found} | FidkitAnswerer(where.answerer)
    told = chain.invoke(question)
    return told["answer"], told["context"][0].metadata["source"]


def llamaindex(where: Asked, question: str) -> Said:
    """A query engine."""
    from fidkit.adapters.llamaindex import FidkitQueryEngine

    response = FidkitQueryEngine(where.answerer, k=20).query(question)
    return str(response), response.source_nodes[0].node.metadata["source"]


def dspy(where: Asked, question: str) -> Said:
    """The retriever finds the document that the module's answer stands in."""
    from fidkit.adapters.dspy import FidkitAnswerer, FidkitRetriever

    made = FidkitAnswerer(where.answerer, k=20)(question=question)
    source = made.evidence[0]["source"]
    found = {one.source for one in FidkitRetriever(where.corpus, k=20)(question)}
    return made.answer, source if source in found else ""


CLIENTS: dict[str, Callable[[Asked, str], Said]] = {
    "openai, chat": openai_chat,
    "openai, chat, streamed": openai_chat_streamed,
    "openai, responses": openai_responses,
    "openai, responses, streamed": openai_responses_streamed,
    "curl": curl,
    "MCP, streamable HTTP": mcp_http,
    "MCP, stdio": mcp_stdio,
    "Haystack": haystack,
    "LangChain": langchain,
    "LlamaIndex": llamaindex,
    "DSPy": dspy,
}


def _sdk(where: Asked) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{where.base}/v1", api_key="none", max_retries=0)


def _cited(response: Any) -> str:
    """The first citation of a message: one of many kinds of output, of content and of annotation."""
    return str(response.output[0].content[0].annotations[0].url)


async def _of_tool(transport: Any, question: str) -> Said:
    async with mcp.Client(transport) as session:
        done = await session.call_tool("answer", {"question": question})
    return _of_record(done.structured_content)


def _of_record(answer: dict[str, Any]) -> Said:
    return answer["answer"], answer["evidence"][0]["source"]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `fidkit serve` while it runs."""
    command = [sys.executable, "-m", "fidkit", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def main() -> int:
    """Print the table; 1 if anything in it is wrong."""
    lines = (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [one for one in map(json.loads, lines) if one["id"] in ASKED]
    folder, is_wrong = FOLDER / "documents", False
    print(f"| client | right of {len(ASKED)} | right document | source of the last |")
    print("|---|---|---|---|")
    with served(folder) as base, Answerer.open(folder) as answerer:
        where = Asked(base, folder, answerer)
        for name, ask in CLIENTS.items():
            right = placed = 0
            for one in questions:
                answer, source = ask(where, one["question"])
                right += exact_match(answer or "", one["answers"])
                placed += one["document"] in source
            is_wrong |= (right, placed) != (len(ASKED), len(ASKED))
            print(f"| {name} | {right} | {placed} | `{source.removeprefix(base)}` |", flush=True)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main())
