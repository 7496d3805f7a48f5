"""Asks small language models all questions about the folder, from the passages that fidkit's search finds.

    python examples/own-folder/peers.py --model NAME=FILE.gguf [--model NAME=FILE.gguf ...]
        [FOLDER] [--passages 3] [--threads N] [--json]

FOLDER is as for `judge.py`, which judges the answers. A model is a GGUF file that transformers reads, once
`pip install 'fidkit[encoders]' gguf accelerate` was run. One with a chat template is told in a message what
to do; any other one is shown two worked examples as well. All compute in float32 and write the likeliest
token each time. With `--json`, one object is printed, each answer included, also as it was written.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from judge import HERE, Judged, judge, questions_of, show, summary

from fidkit.engine.meaning import runnable
from fidkit.errors import FidkitError, UsageError
from fidkit.native.threads import default
from fidkit.passages import Corpus
from fidkit.passages.opening import open_sources
from fidkit.types import Passage

NEEDED = ("transformers", "gguf", "accelerate")
MOST_TOKENS = 32
ABSENT = "unanswerable"
"""What a model is told to say where the passages don't say."""

INSTRUCTION = (
    "Answer the question from the passages. Write only the answer, in as few words as possible, "
    f"as they stand in the passages. If the passages do not say it, write exactly: {ABSENT}"
)

# Of nothing that the folder's documents are about.
WORKED = (
    (
        "Where does the lamp of the lighthouse stand today?",
        (
            Passage("", "Skarv lighthouse", "Skarv lighthouse was built in 1871 and was manned until 1968."),
            Passage("", "Skarv lighthouse", "Its first lamp is shown in the harbour museum of Lund today."),
            Passage("", "Ferries", "Ferries to the island leave at 9:15 and 16:40, except on Sundays."),
        ),
        "in the harbour museum of Lund",
    ),
    (
        "Who painted the ceiling of the theatre?",
        (
            Passage(
                "",
                "City theatre",
                "The city theatre has 640 seats. It burnt down in 1922 and was built again.",
            ),
            Passage("", "City theatre", "Its ceiling was cleaned in 2009, which took five months."),
            Passage("", "Market", "On Fridays there is a market in front of the theatre."),
        ),
        ABSENT,
    ),
)

# What stands before an answer, and around it.
_LABEL = re.compile(r"^(?:the )?answer(?: is)?\s*:\s*", re.IGNORECASE)
_AROUND = " \t\"'`*“”\u2018’"

# "unanswerable" and other words for it: not mentioned, is not explicitly stated; the passages do not say, it
# doesn't clearly mention; no information, no answer; can't be determined, cannot answer.
_SAID = r"(?:mentioned|stated|specified|given|provided|said|told|known|answered|answerable)"
_SAY = r"(?:say|mention|state|specify|give|provide|contain|tell|answer|know)"
_SILENCE = re.compile(
    rf"\b{ABSENT}\b"
    rf"|\bnot (?:\w+ly )?{_SAID}\b"
    rf"|\bdo(?:es)?(?: not|n['’]t) (?:\w+ly )?{_SAY}\b"
    r"|\bno (?:answer|information|mention)\b"
    r"|\bcan(?: ?not|['’]t) (?:be )?(?:answer|determine|find|found)",
    re.IGNORECASE,
)

Prompt = Callable[[str, Sequence[Passage]], str]


@dataclass(frozen=True)
class Peer:
    """A language model made ready to answer.

    Attributes:
        megabytes: of its file.
        prompt: what it is given, of a question and passages.
        write: how it goes on.
    """

    name: str
    megabytes: float
    prompt: Prompt
    write: Callable[[str], str]


def asked_of(question: str, passages: Iterable[Passage]) -> str:
    """Passages, each on a line, and the question, up to where the answer is to stand."""
    lines = [f"Passage {n}: {_line(p)}" for n, p in enumerate(passages, start=1)]
    return "\n".join([*lines, f"Question: {question}", "Answer:"])


def _line(passage: Passage) -> str:
    return " ".join(f"{passage.title}: {passage.text}".split())


def message(question: str, passages: Iterable[Passage]) -> str:
    """What a model is told that was trained to follow instructions."""
    return f"{INSTRUCTION}\n\n{asked_of(question, passages)}"


def continued(question: str, passages: Iterable[Passage]) -> str:
    """What any other model is given to go on with: the instruction, two worked examples, the question."""
    shown = [f"{asked_of(asked, read)} {answer}" for asked, read, answer in WORKED]
    return "\n\n".join([INSTRUCTION, *shown, asked_of(question, passages)])


def cleaned(text: str) -> str:
    """An answer without `Answer:` before it and quotation marks around it, on one line; empty for silence."""
    bare = _LABEL.sub("", " ".join(text.split()).strip(_AROUND)).strip(_AROUND)
    return "" if is_silence(bare) else bare


def is_silence(text: str) -> bool:
    """Whether an answer says that the passages don't say, or nothing."""
    return not text.strip() or bool(_SILENCE.search(text))


def searched(folder: Path) -> Corpus:
    """The documents, found as the bundled reader's are: by words and by meaning."""
    return open_sources(folder / "documents", encoder=runnable())[0]


def named_files(given: Iterable[str]) -> dict[str, Path]:
    """Files by the names of models, out of NAME=FILE.

    Raises:
        UsageError: no name, a name twice, or no such file.
    """
    files: dict[str, Path] = {}
    for one in given:
        name, _, file = one.partition("=")
        if not name or not file:
            raise UsageError(
                f"--model {one}: expected NAME=FILE, such as smollm2=SmolLM2-135M-Instruct.Q4_1.gguf"
            )
        if name in files:
            raise UsageError(f"--model {one}: {name} is named twice; give each model a name of its own")
        files[name] = Path(file).expanduser()
        if not files[name].is_file():
            raise UsageError(f"--model {one}: there is no file {files[name]}; expected a GGUF file")
    return files


def check_needed() -> None:
    """What reads GGUF files is installed.

    Raises:
        UsageError: it isn't.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"GGUF files are read with {', '.join(NEEDED)}, and not installed is {', '.join(missing)}; "
            "run `pip install 'fidkit[encoders]' gguf accelerate`"
        )


def load(name: str, file: Path) -> Peer:
    """A model and its tokenizer out of a GGUF file, in float32.

    Raises:
        UsageError: transformers can't read it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where).eval()
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise UsageError(
            f"{file} can't be read as a language model ({error}); give a GGUF file that transformers knows"
        ) from error
    chat = bool(tokenizer.chat_template)
    prompt = _in_template(tokenizer) if chat else continued
    return Peer(name, file.stat().st_size / 1e6, prompt, _writer(model, tokenizer, chat))


def _in_template(tokenizer: Any) -> Prompt:
    def prompt(question: str, passages: Sequence[Passage]) -> str:
        messages = [{"role": "user", "content": message(question, passages)}]
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    return prompt


def _writer(model: Any, tokenizer: Any, chat: bool) -> Callable[[str], str]:
    """How a model goes on: in a chat, whose template has all special tokens, to its end; else to a line's."""
    import torch
    from transformers import StoppingCriteriaList

    def write(prompt: str) -> str:
        given = tokenizer(prompt, return_tensors="pt", add_special_tokens=not chat)
        start = given["input_ids"].shape[1]

        def written(tokens: Any) -> str:
            return tokenizer.decode(tokens[0, start:], skip_special_tokens=True)

        def at_end_of_line(tokens: Any, _scores: Any, **_: Any) -> Any:
            return torch.tensor([not chat and "\n" in written(tokens)])

        with torch.inference_mode():
            tokens = model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                max_new_tokens=MOST_TOKENS,
                do_sample=False,
                stopping_criteria=StoppingCriteriaList([at_end_of_line]),
            )
        return written(tokens) if chat else written(tokens).partition("\n")[0]

    return write


def answered(
    peer: Peer,
    search: Callable[[str], Sequence[Passage]],
    questions: Iterable[dict[str, Any]],
) -> Iterator[tuple[Judged, str]]:
    """One question after the other: what is to be said about the answer, and what was written."""
    for asked in questions:
        start = time.perf_counter()
        passages = search(asked["question"])
        text = peer.write(peer.prompt(asked["question"], passages))
        seconds = time.perf_counter() - start
        yield judge(asked, cleaned(text), passages, seconds), text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge small language models by questions about a folder.")
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="documents/ and questions.jsonl")
    parser.add_argument(
        "--model", action="append", required=True, metavar="NAME=FILE", help="a GGUF file; may be given again"
    )
    parser.add_argument("--passages", type=int, default=3, help="how many passages to read, at most")
    parser.add_argument("--threads", type=int, default=default(), help="of a model")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Ask one model after the other, judge, print.

    Raises:
        FidkitError: as `named_files`, `check_needed`, `load` and `open_sources` do.
    """
    import torch

    files = named_files(options.model)
    check_needed()
    torch.set_num_threads(options.threads)
    questions = questions_of(options.folder)
    corpus = searched(options.folder)
    records = []

    def search(question: str) -> list[Passage]:
        return [hit.passage for hit in corpus.search(question, options.passages)]

    with corpus:
        for name, file in files.items():
            peer = load(name, file)
            list(answered(peer, search, questions[:1]))  # what is done once is no part of the times
            both = list(answered(peer, search, questions))
            judged = [one for one, _ in both]
            record = {
                "reader": name,
                "megabytes": peer.megabytes,
                "passages": options.passages,
                **summary(judged),
            }
            if not options.json:
                show(record, judged)
                print()
            records.append({**record, "answers": [{**asdict(one), "written": text} for one, text in both]})
    if options.json:
        print(json.dumps({"models": records}))


def main() -> int:
    """Run, and say in a line what is wrong if something is."""
    try:
        run(_options())
    except FidkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
