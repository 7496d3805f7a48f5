"""The paper's derived numbers follow from its tables, and the cost model agrees where it can."""

import pytest
from paper import facts
from paper.sizes import SIZES

from fidkit.cost import Workload, paper_shares
from fidkit.preset import named


def test_derived_numbers() -> None:
    assert facts.speedup() == pytest.approx(7.07, abs=0.005)
    assert facts.multi_query_speedup() == pytest.approx(23.5)
    assert facts.layer_sparsity_saving() == pytest.approx(0.119, abs=0.0005)
    assert facts.encoder_ms() == pytest.approx(13.8)


def test_tables_agree_with_each_other() -> None:
    assert all(total - decoder == pytest.approx(12) for total, decoder in facts.BATCH_1.values())
    assert facts.BEAM_OR_SIZE["mq"] == facts.ABLATIONS["mq"][1]
    assert facts.BEAM_OR_SIZE["asym"] == facts.ABLATIONS["asym"][1]
    assert facts.BEAM_OR_SIZE["mq-beam"] / facts.BEAM_OR_SIZE["mq"] == pytest.approx(facts.BEAM_COST)
    assert facts.stages()["fid"] == (101.8, 88.0)


def test_the_share_of_the_decoder_is_the_cost_model_s() -> None:
    shares = paper_shares(named("fid-base"), Workload())
    assert shares.decoder_share == pytest.approx(facts.DECODER_SHARE)


@pytest.mark.parametrize(
    ("system", "preset"),
    [
        ("fid", "fid-base"),
        ("lsa", "fid-lsa-base"),
        ("mq", "fido-base-base"),
        ("asym", "fido-base-xl"),
        ("light", "fid-light-base"),
        ("lumen", "lumen-base-third"),
        ("asym-every-6", "fido-base-xl"),
    ],
)
def test_systems_are_the_presets(system: str, preset: str) -> None:
    assert SIZES["base"].system(system) == named(preset)


def test_ablations_change_one_thing() -> None:
    asym, no_lsa, no_mq = (SIZES["base"].system(f"asym{part}") for part in ("", "-no-lsa", "-no-mq"))
    assert no_lsa == asym.replace(cross_attention_every=1)
    assert no_mq == asym.replace(self_kv_heads=None, cross_kv_heads=None)
