import json
from fractions import Fraction
from pathlib import Path

import pytest

from fidkit.config import ReaderConfig, StackConfig
from fidkit.errors import ConfigError, UsageError
from fidkit.preset import PRESETS, named
from oracles import small, stack


def test_what_is_left_out_is_fid() -> None:
    config = small()
    assert (config.live, config.memory_layers, config.alpha) == (3, 0, 1)
    assert config.kv_heads == (4, 4)
    assert config.cross_layers == (True, True)


def test_the_period_counts_from_one() -> None:
    config = small(decoder=stack(24), cross_attention_every=6)
    assert [n for n, reads in enumerate(config.cross_layers) if reads] == [5, 11, 17, 23]
    # T5-small's 8 decoder layers: layers 7 and 8 follow the only one that reads.
    assert small(decoder=stack(8), cross_attention_every=6).cross_layers.index(True) == 5


def test_saved_and_loaded(tmp_path: Path) -> None:
    for name, config in PRESETS.items():
        config.save(tmp_path / "config.json")
        assert ReaderConfig.load(tmp_path / "config.json") == config, name


def test_a_copy_with_changes_is_checked() -> None:
    assert small().replace(live_layers=1).memory_layers == 2
    with pytest.raises(ConfigError, match="live_layers is 9"):
        small().replace(live_layers=9)
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        small().replace(colour=1)


@pytest.mark.parametrize(
    ("given", "live"),
    [("1/3", 1), (Fraction(2, 3), 2), ("0/5", 0), ("1.0", 3), ("3/3", 3), ("2", 2), (2, 2), (None, 3)],
)
def test_live_layers_as_a_proportion(given, live: int) -> None:
    config = small().replace(live_layers=given)
    assert config.live == config.live_layers == live


def test_a_memory_encoder_of_its_own_leaves_alpha_and_the_question_encoder_alone() -> None:
    config = small(live_layers=1, memory_encoder=stack(7, width=24))
    assert (config.question_layers, config.memory_layers, config.memory_width) == (2, 7, 24)
    assert config.alpha == Fraction(1, 3)
    plain = small(live_layers=1)
    assert (plain.question_layers, plain.memory_layers, plain.memory_width) == (2, 2, 16)
    # All layers live, and a memory in front of them.
    deeper = small(memory_encoder=stack(4))
    assert (deeper.alpha, deeper.question_layers, deeper.memory_layers) == (1, 0, 4)


LATER = {
    "memory_encoder": stack(4).model_dump(),
    "frozen": [],
    "live_attention": "apart",
    "rerank": {"after": 1, "keep": 2},
}


def test_a_file_says_later_knobs_only_where_they_are_turned(tmp_path: Path) -> None:
    """So that files and fingerprints of readers without them are what they were."""
    path, config = tmp_path / "config.json", small(live_layers=1)
    config.save(path)
    assert not LATER.keys() & json.loads(path.read_text()).keys()
    assert ReaderConfig.load(path) == config
    for name, value in LATER.items():
        turned = config.replace(**{name: value})
        turned.save(path)
        assert LATER.keys() & json.loads(path.read_text()).keys() == {name}
        assert ReaderConfig.load(path) == turned


def test_a_file_may_say_the_defaults_of_later_knobs(tmp_path: Path) -> None:
    path, config = tmp_path / "config.json", small()
    path.write_text(json.dumps({"format_version": 1, **config.model_dump()}))
    assert LATER.keys() <= json.loads(path.read_text()).keys()
    assert ReaderConfig.load(path) == config


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        small().dropout = 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"self_kv_heads": 3}, r"self_kv_heads is 3 .* 4 heads; choose one of \[1, 2, 4\]"),
        ({"cross_kv_heads": 8}, "cross_kv_heads is 8"),
        ({"live_layers": 4}, "choose 0 to 3"),
        ({"live_layers": -1}, "live_layers: "),
        ({"cross_attention_every": 3}, "choose 1 to 2"),
        ({"cross_attention_every": 0}, "cross_attention_every: "),
        ({"decoder": stack(width=20).model_dump()}, "set shared_embedding to false"),
        ({"question_in_context": "twice"}, "question_in_context: "),
        ({"block": "t6"}, "block: "),
        ({"kept_vectors": 0}, "kept_vectors: "),
        ({"dropout": 1.0}, "dropout: "),
        (
            {"live_layers": "1/2"},
            r"1/2 of 3 encoder layers is 1.5, .* the nearest are 1 \(1/3\) and 2 \(2/3\)",
        ),
        ({"live_layers": "0.9"}, r"is 2.7, no whole number; the nearest are 2 \(2/3\) and 3 \(1\)"),
        ({"live_layers": "4/3"}, "4/3 is no proportion; choose one from 0 to 1"),
        ({"live_layers": "a third"}, "'a third' is no number of layers, such as 1, and no proportion"),
        ({"live_layers": "1/0"}, "'1/0' is no number of layers"),
        ({"live_layers": 0.5}, 'write a proportion as text, such as "1/3"'),
        ({"live_layers": "5"}, "live_layers is 5 .* choose 0 to 3"),
        ({"live_attention": "memory"}, "live_attention: "),
        ({"frozen": ["decoder"]}, "frozen.0: "),
        ({"memory_encoder": {"layers": 3}}, r"memory_encoder\.width: "),
        (
            {"live_layers": 1, "rerank": {"after": 2, "keep": 1}},
            r"rerank\.after is 2, more .* \(1\)",
        ),
        ({"live_layers": 0, "rerank": {"after": 1, "keep": 1}}, "rerank needs live layers"),
        ({"rerank": {"after": 0, "keep": 1}}, r"rerank\.after: "),
        ({"rerank": {"after": 1, "keep": 0}}, r"rerank\.keep: "),
        ({"encoder": stack().model_dump() | {"layers": 0}}, r"encoder\.layers: "),
        (
            {"encoder": stack().model_dump() | {"depth": 3}},
            r"unknown key 'encoder\.depth' \(known: layers, width",
        ),
    ],
)
def test_impossible_combinations(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        small().replace(**change)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 1}', '{"format_version": "1"}', "\xff"])
def test_files_that_hold_no_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"config\.json"):
        ReaderConfig.load(path)


def test_a_newer_format(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    small().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(ConfigError, match="format_version is 99, this fidkit reads up to 1; upgrade fidkit"):
        ReaderConfig.load(path)


# Presets


def test_names_of_the_papers() -> None:
    for size in ("small", "base", "large", "xl", "xxl"):
        for name in ("fid", "fid-light", "fid-lsa", "memoryfid", "lumen"):
            assert f"{name}-{size}" in PRESETS
        glimmer = named(f"glimmer-{size}")
        assert glimmer.replace(rerank=None) == named(f"lumen-{size}")
        for alpha in ("eighth", "quarter", "third", "half"):
            assert f"lumen-{size}-{alpha}" in PRESETS
    for pair in ("small-large", "base-base", "base-xl", "large-xxl", "xl-xxl"):
        assert f"fido-{pair}" in PRESETS


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        ("fid-base", Fraction(1)),
        ("memoryfid-base", Fraction(0)),
        ("lumen-base", Fraction(1, 3)),
        ("lumen-xxl-eighth", Fraction(1, 8)),
        ("lumen-base-eighth", Fraction(1, 6)),  # 1.5 of 12 layers is no number of layers
    ],
)
def test_live_share(name: str, alpha: Fraction) -> None:
    assert named(name).alpha == alpha


def test_fido_reads_in_every_sixth_layer_with_one_head() -> None:
    config = named("fido-base-xl")
    assert [n for n, reads in enumerate(config.cross_layers) if reads] == [5, 11, 17, 23]
    assert config.kv_heads == (1, 1)
    assert config.encoder.width < config.decoder.width
    assert isinstance(config.encoder, StackConfig)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="no preset 'fid-bass'; did you mean fid-base"):
        named("fid-bass")


@pytest.mark.parametrize(("buckets", "least"), [(32, 17), (8, 5), (4, 3)])
def test_the_largest_distance_lies_beyond_those_that_have_a_bucket_each(buckets: int, least: int) -> None:
    assert small(relative_buckets=buckets, relative_max_distance=least).relative_max_distance == least
    for most in {2, least - 1}:
        with pytest.raises(
            ConfigError, match=f"{buckets // 2} of the {buckets} relative_buckets .*; choose {least}"
        ):
            small().replace(relative_buckets=buckets, relative_max_distance=most)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"question_format": "question:"},
            "'question:' has no {question}, so that no question would be read",
        ),
        ({"question_format": "{{question}}"}, "has no {question}"),
        (
            {"question_format": "{question.__class__}"},
            "has 'question.__class__' in braces; expected {question}",
        ),
        ({"question_format": "{question} {0}"}, "has '0' in braces"),
        ({"question_format": "{question} {}"}, "has '' in braces"),
        ({"question_format": "{question!r}"}, "has 'questionr' in braces"),
        ({"question_format": "{question:>900000000}"}, "in braces"),
        ({"question_format": "{question"}, "can't be filled in (expected '}' before end of string)"),
        ({"question_format": "{title} {question}"}, "has 'title' in braces"),
        ({"passage_format": "title: {title}"}, "has no {text}, so that no text would be read"),
        ({"passage_format": "{text[0]}"}, "has 'text[0]' in braces; expected {text} and {title}"),
        ({"passage_format": "{question} {text}"}, "has 'question' in braces"),
    ],
)
def test_formats_that_lose_or_reveal_something(change: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small().replace(**change)
    assert message in str(caught.value)


def test_formats_that_are_fine() -> None:
    config = small().replace(question_format="{{{question}}} <extra_id_0>", passage_format="{text}")
    assert config.question_format.format(question="who?") == "{who?} <extra_id_0>"


def test_a_file_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"encoder": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ConfigError, match=r"config\.json: .* nested too deeply"):
        ReaderConfig.load(path)
