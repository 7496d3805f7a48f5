"""`fidkit memory`: what is said before, during and after."""

import json
import os
import pty
import re
import select
import shutil
import sys
from pathlib import Path

import pytest

from engine.cpu.test_reader import run_blocked
from fidkit import Reader, assets
from fidkit.cli.app import run
from fidkit.engine.fingerprint import memory_fingerprint
from precompute.conftest import make_corpus, reader_directory, texts

__all__ = ["make_corpus", "reader_directory"]  # fixtures


@pytest.fixture
def corpus(make_corpus) -> Path:
    return make_corpus(texts(60))


def printed(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_build_says_what_it_will_do_and_what_it_did(corpus, reader_directory, capsys):
    assert run(["memory", "build", str(corpus), "--reader", str(reader_directory)]) == 0
    out, err = printed(capsys)
    assert out.startswith(f"{corpus}: memory of 60 passages, 54 encoded (")
    assert out.count("\n") == 1
    assert f"{corpus}: encodes 54 of 60 passages (0 are there): " in err
    assert "in 1 shard, about 0:0" in err
    assert "encoding passages: 54 of 54, " in err
    assert f"--in {corpus} --reader {reader_directory}" in err
    assert run(["memory", "build", str(corpus), "--reader", str(reader_directory)]) == 0
    out, err = printed(capsys)
    assert "0 encoded" in out
    assert "encodes" not in err


def test_a_reader_that_may_be_new_is_to_be_trained_before_it_is_asked(
    corpus, reader_directory, tmp_path, capsys
):
    reader = shutil.copytree(reader_directory, tmp_path / "reader")
    command, ask = ["memory", "build", str(corpus), "--reader", str(reader)], f"--reader {reader}\n"
    assert run(command) == 0
    _, err = printed(capsys)
    [told] = re.findall("^next: (.*\n)", err, re.MULTILINE)
    assert told.startswith(f"train {reader} unless that was done, ")
    assert "`fidkit train`" in told
    assert told.endswith(ask)
    shutil.copy(assets.reader("pocket-lumen") / "calibration.json", reader)  # its answers were judged
    assert run(command) == 0
    _, err = printed(capsys)
    assert err.endswith(f'next: fidkit ask "YOUR QUESTION" --in {corpus} {ask}')


def test_what_one_user_makes_may_be_served_by_another(corpus, reader_directory, monkeypatch):
    """Of a memory, a corpus and a reader; as far as the system lets others read new files."""
    before = os.umask(0o026)
    try:
        reader = Reader.from_pretrained(reader_directory)
        reader.save_pretrained(corpus / "reader")
        command = ["memory", "build", str(corpus), "--reader", str(corpus / "reader"), "--codec", "pq"]
        assert run(command) == 0
    finally:
        os.umask(before)
    new = [
        path
        for path in (corpus / "memory", corpus / "reader")
        for path in path.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    ]
    assert {path.suffix for path in new} >= {".safetensors", ".sqlite", ".json"}
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in new} == {
        path.name: "0o640" for path in new
    }


def test_json_is_one_object(corpus, reader_directory, capsys):
    command = ["memory", "build", str(corpus), "--reader", str(reader_directory), "--codec", "int8", "--json"]
    assert run(command) == 0
    built = json.loads(printed(capsys)[0])
    assert (built["encoded"], built["codec"], built["shards"]) == (54, "int8", 1)
    assert built["fingerprint"] == memory_fingerprint(Reader.from_pretrained(reader_directory))
    assert run(["memory", "info", str(corpus), "--json"]) == 0
    info = json.loads(printed(capsys)[0])
    assert (info["passages"], info["covered"], info["rows"]) == (60, 60, 54)
    assert info["bytes"] == built["bytes"]
    assert info["fingerprint"] == built["fingerprint"]
    assert run(["memory", "check", str(corpus), "--json"]) == 0
    assert json.loads(printed(capsys)[0]) == {"shards": 1, "damaged": [], "repaired": False}


def test_info_says_what_is_not_covered(make_corpus, corpus, reader_directory, capsys):
    run(["memory", "build", str(corpus), "--reader", str(reader_directory)])
    make_corpus([*texts(60), "one more"])
    capsys.readouterr()
    assert run(["memory", "info", str(corpus)]) == 0
    out, err = printed(capsys)
    assert "passages     60 of 61 (98.4%)" in out
    assert f"reader       {reader_directory} (2 memory layers, width 32)" in out
    assert "1 passage is encoded when read; run `fidkit memory build" in err


def test_without_a_memory_there_is_nothing_to_say(corpus, capsys):
    for command in ("info", "check"):
        assert run(["memory", command, str(corpus)]) == 1
        assert "has no memory; build it with `fidkit memory build" in printed(capsys)[1]


def test_check_names_damaged_shards_and_repair_drops_them(corpus, reader_directory, capsys):
    build = ["memory", "build", str(corpus), "--reader", str(reader_directory)]
    run(build)
    [shard] = (corpus / "memory").glob("shard-*")
    whole = shard.read_bytes()
    capsys.readouterr()
    assert run(["memory", "check", str(corpus)]) == 0
    assert "1 shard is as it was written" in printed(capsys)[0]
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(["memory", "check", str(corpus)]) == 1
    out, err = printed(capsys)
    assert out.startswith(shard.name)
    assert "1 of 1 shard is damaged; run `fidkit memory check" in err
    assert run(["memory", "check", str(corpus), "--repair"]) == 0
    assert "dropped 1 of 1 shard" in printed(capsys)[1]
    assert not shard.exists()
    assert run(build) == 0
    assert shard.read_bytes() == whole
    assert run(["memory", "check", str(corpus)]) == 0


def test_above_the_limit_it_needs_yes(corpus, reader_directory, capsys):
    build = ["memory", "build", str(corpus), "--reader", str(reader_directory), "--limit-gb", "0"]
    assert run(build) == 2
    err = printed(capsys)[1]
    assert "more than 0 GB (--limit-gb); add --yes to build it" in err
    assert not list((corpus / "memory").glob("shard-*"))
    assert run([*build, "--yes"]) == 0


@pytest.mark.parametrize(("reply", "code"), [("n\n", 1), ("y\n", 0)])
def test_on_a_terminal_it_asks(corpus, reader_directory, reply, code, monkeypatch):
    build = ["memory", "build", str(corpus), "--reader", str(reader_directory), "--limit-gb", "0"]
    ours, theirs = pty.openpty()
    monkeypatch.setattr(sys, "stdin", os.fdopen(os.dup(theirs)))
    monkeypatch.setattr(sys, "stderr", os.fdopen(theirs, "w"))
    os.write(ours, reply.encode())
    assert run(build) == code
    sys.stderr.flush()
    said = b""
    while select.select([ours], [], [], 0.2)[0]:  # a terminal gives what it has by and by
        said += os.read(ours, 1 << 16)
    assert b"Build it? [y/N]" in said
    assert (b"nothing was built" in said) == (code == 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--codec", "gzip"], "codec is 'gzip'"),
        (["--workers", "0"], "--workers is 0"),
        (["--by", "spark"], "expected local or ray"),
        (["--precision", "int8"], "expected one of auto, float32, bfloat16"),
    ],
)
def test_wrong_use_is_one_line(corpus, reader_directory, capsys, more, message):
    assert run(["memory", "build", str(corpus), "--reader", str(reader_directory), *more]) == 2
    err = printed(capsys)[1]
    assert message in err
    assert err.count("error: ") == 1


def test_ray_that_is_missing_is_named_with_the_command(corpus, reader_directory, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run(["memory", "build", str(corpus), "--reader", str(reader_directory), "--by", "ray"]) == 2
    assert "pip install 'fidkit[ray]'" in printed(capsys)[1]


def test_readers_that_have_no_memory_are_told_what_to_do(corpus, capsys):
    assert run(["memory", "build", str(corpus), "--reader", "pocket"]) == 2
    assert "`fidkit convert pocket NEW --live-layers 2`" in printed(capsys)[1]


@pytest.mark.parametrize("codec", ["bf16", "pq"])
def test_what_is_there_is_said_without_pytorch(corpus, reader_directory, codec):
    command = ["memory", "build", str(corpus), "--reader", str(reader_directory), "--codec", codec]
    assert run([*command, "--pq-codes", "16"]) == 0
    for verb, said in (("info", "60 of 60"), ("check", "1 shard is as it was written")):
        done = run_blocked("memory", verb, str(corpus))
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
