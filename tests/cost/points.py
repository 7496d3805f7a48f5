"""Readers, workloads and batches to try cost models on."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st

from fidkit.config import ReaderConfig, RerankConfig, StackConfig
from fidkit.context import Batch, collate
from fidkit.cost import Workload
from oracles import EXAMPLES, quick

# The readers here are too small for threads to pay.
torch.set_num_threads(1)
few = settings(quick, max_examples=EXAMPLES + 4)
# As the plain reader computes.
PLAIN = {"memory": "computed", "dtype": "float32"}


def batch_of(workload: Workload, labels: bool = False) -> Batch:
    B = workload.questions
    passages = [[2] * length for length in workload.lengths]
    return collate(
        [[2] * workload.question_tokens] * B,
        [passages] * B,
        [[2] * workload.output_tokens] * B if labels else None,
    )


@st.composite
def configs(draw) -> ReaderConfig:
    def stack() -> StackConfig:
        return StackConfig(
            layers=draw(st.integers(1, 4)),
            width=draw(st.sampled_from([8, 12])),
            heads=draw(st.sampled_from([1, 2, 6])),
            head_width=draw(st.sampled_from([2, 5])),
            feed_forward=draw(st.sampled_from([7, 16])),
        )

    # A decoder with positions of its own can't share the words of an encoder that has none.
    families = draw(
        st.sampled_from(
            [("t5",) * 2, ("t5-v1.1",) * 2, ("bert", "t5"), ("bert",) * 2, ("umt5", "t5"), ("mpnet",) * 2]
        )
    )
    encoder, decoder = (stack().replace(family=family) for family in families)
    live = draw(st.integers(0, encoder.layers))
    some = st.builds(RerankConfig, after=st.integers(1, max(1, live)), keep=st.integers(1, 4))
    divisors = st.sampled_from([n for n in range(1, decoder.heads + 1) if decoder.heads % n == 0])
    return ReaderConfig(
        encoder=encoder,
        decoder=decoder,
        vocabulary_size=50,
        tied_head=draw(st.booleans()),
        shared_embedding=encoder.width == decoder.width and draw(st.booleans()),
        live_layers=live,
        memory_encoder=stack().replace(family=families[draw(st.integers(0, 1))])
        if draw(st.booleans())
        else None,
        frozen=draw(
            st.sampled_from([("memory",), (), ("question",), ("memory", "question"), ("embedding",)])
        ),
        live_attention=draw(st.sampled_from(["full", "passage-sees-question"])),
        rerank=draw(st.none() | some) if live else None,
        kept_vectors=draw(st.sampled_from([None, 1, 6])),
        question_in_context=draw(st.sampled_from(["each", "once", "none"])),
        cross_attention_every=draw(st.integers(1, decoder.layers)),
        self_kv_heads=draw(divisors),
        cross_kv_heads=draw(divisors),
    )


@st.composite
def workloads(draw) -> Workload:
    lengths = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    return Workload(
        questions=draw(st.integers(1, 3)),
        passages=len(lengths),
        passage_tokens=lengths,
        question_tokens=draw(st.integers(1, 6)),
        output_tokens=draw(st.integers(1, 4)),
        beams=draw(st.integers(1, 3)),
        **PLAIN,
    )
