"""MPNet's blocks: BERT's, with a bias by distance that all layers of a stack share, as T5 has it."""

from __future__ import annotations

from fidkit.config import ReaderConfig, StackConfig
from fidkit.nn.families.bert import BertBlocks
from fidkit.nn.families.t5 import relative_bias
from fidkit.nn.positions import RelativeBias


class MPNetBlocks(BertBlocks):
    """Distances count within a row, from the question into the passage; learned positions are as BERT's."""

    epsilon = 1e-5

    def encoder_bias(self, config: ReaderConfig, stack: StackConfig) -> RelativeBias:
        return relative_bias(config, stack, bidirectional=True)

    def decoder_bias(self, config: ReaderConfig) -> RelativeBias:
        return relative_bias(config, config.decoder, bidirectional=False)


BLOCKS = {"mpnet": MPNetBlocks()}
