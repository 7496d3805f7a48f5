"""What the FiDO paper says: the one place where its numbers are typed in.

All times are of T5 v1.1 base with 40 passages of 256 tokens and 32 output tokens on TPU v4, in milliseconds
a sample. Systems are named as in `paper.sizes`.
"""

from __future__ import annotations

SOURCE = "FiDO, arXiv 2212.08153"

# Table 1: largest batch on one TPU v4.
LARGEST_BATCH = {"fid": 24, "lsa": 128, "mq": 256, "asym": 128}
# Table 2: training samples a second and chip.
PRETRAIN = {"fid": 219.9, "lsa": 247.0, "mq": 248.0, "asym": 81.9}
FINETUNE = {"fid": 9.7, "lsa": 11.8, "mq": 11.8, "asym": 6.9}
# Table 3: FiDO base-XL and without each of its parts; total, decoder.
ABLATIONS = {
    "asym": (15.8, 2.0),
    "asym-no-lsa": (19.2, 5.4),
    "asym-no-mq": (60.8, 47.0),
    "mq": (14.4, 0.6),
}
# Table 4: total.
LIGHT = {"fid": 101.8, "light": 28.3, "lsa": 29.5}
# Table 6: batch 1; total, decoder.
BATCH_1 = {
    "fid": (135.0, 123.0),
    "lsa": (51.0, 39.0),
    "mq": (35.0, 23.0),
    "mq-beam-16": (35.0, 23.0),
    "asym": (117.0, 105.0),
}
# Table 7: decoder. The beams are known by their cost alone.
BEAM_COST = 4
BEAM_OR_SIZE = {"mq": 0.6, "mq-beam": 2.4, "asym": 2.0}
# What the XL decoder adds to the time of base-base at batch 24.
LARGER_DECODER_COST = 0.21
# Section 3.1: cross-attention in every sixth layer. A layer of FiD costs 12 n_s d² in the encoder and
# 2 n_s d² in the decoder.
EVERY = 6
DECODER_SHARE = 1 / 7


def encoder_ms() -> float:
    """Of the base encoder: what is not the decoder in table 3."""
    total, decoder = ABLATIONS["mq"]
    return round(total - decoder, 1)


def stages() -> dict[str, tuple[float, float]]:
    """Total and decoder of each step from FiD to FiDO, tables 3 and 4 together (figure 2, left)."""
    totals = {"fid": LIGHT["fid"], "lsa": LIGHT["lsa"]}
    split = {system: (total, round(total - encoder_ms(), 1)) for system, total in totals.items()}
    return split | {"mq": ABLATIONS["mq"], "asym": ABLATIONS["asym"]}


def speedup() -> float:
    """FiD over FiDO base-base."""
    return LIGHT["fid"] / ABLATIONS["mq"][0]


def multi_query_speedup() -> float:
    """Of the XL decoder."""
    return ABLATIONS["asym-no-mq"][1] / ABLATIONS["asym"][1]


def layer_sparsity_saving() -> float:
    """Share of all operations of FiD that cross-attention in every sixth layer saves."""
    return (1 - 1 / EVERY) * DECODER_SHARE
