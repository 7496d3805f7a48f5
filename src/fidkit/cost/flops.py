"""Operations of a reader: exact, and by the FiDO paper's formulas.

The two differ on purpose. The paper counts multiplications (half of the FLOPs), takes one width d for
everything, a plain feed-forward layer of inner width 4d, multi-head attention, and leaves out the logits
and the growth of self-attention. It is there for comparison with the paper; every prediction of this
package rests on the exact count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fidkit.config import ReaderConfig
from fidkit.cost.parts import Part, list_parts
from fidkit.cost.workload import Workload


def exact_flops(
    config: ReaderConfig, workload: Workload, *, training: bool = False
) -> dict[str, dict[str, int]]:
    """Exact FLOPs of a batch by stage and part.

    Equal to `torch.utils.flop_counter.FlopCounterMode` on the plain reader: for reading and generating
    `output_tokens` tokens, or with `training` for a forward and backward pass over as many targets. The
    backward pass costs twice the forward pass of what is trained; what is frozen has none.
    """
    table: dict[str, dict[str, int]] = {}
    for part in list_parts(config, workload, training=training):
        if part.flops:
            stage = table.setdefault(part.stage, {})
            stage[part.name] = stage.get(part.name, 0) + part.flops
    return table


def total(counted: Iterable[Part]) -> int:
    """FLOPs of some parts together."""
    return sum(part.flops for part in counted)


def total_flops(config: ReaderConfig, workload: Workload, *, training: bool = False) -> int:
    """Exact FLOPs of a batch."""
    return total(list_parts(config, workload, training=training))


@dataclass(frozen=True)
class PaperFlops:
    """Multiplications of a batch by the formulas of the FiDO paper, in its terms.

    For n_s source tokens in passages of n_p, n_t target tokens and width d, all layers together.

    Attributes:
        encoder_feed_forward: 8 n_s d² a layer.
        encoder_projections: 4 n_s d² a layer.
        encoder_attention: 2 n_s n_p d a layer.
        decoder_feed_forward: 8 n_t d² a layer.
        decoder_projections: 4 n_t d² a layer, of self-attention.
        decoder_attention: 2 n_t² d a layer, of self-attention.
        cross_queries: 2 n_t d² a layer with cross-attention: queries and outputs.
        cross_keys: 2 n_s d² a layer with cross-attention: keys and values.
        cross_attention: 2 n_t n_s d a layer with cross-attention.
    """

    encoder_feed_forward: int
    encoder_projections: int
    encoder_attention: int
    decoder_feed_forward: int
    decoder_projections: int
    decoder_attention: int
    cross_queries: int
    cross_keys: int
    cross_attention: int

    @property
    def encoder(self) -> int:
        return self.encoder_feed_forward + self.encoder_projections + self.encoder_attention

    @property
    def decoder(self) -> int:
        own = self.decoder_feed_forward + self.decoder_projections + self.decoder_attention
        return own + self.cross_queries + self.cross_keys + self.cross_attention

    @property
    def total(self) -> int:
        return self.encoder + self.decoder


def paper_flops(config: ReaderConfig, workload: Workload) -> PaperFlops:
    """The paper's multiplications for a batch.

    d is the width of each stack, L its layers; layers with cross-attention are counted (section 3.1).
    Every encoder layer counts as live and every vector as kept, and key/value heads make no difference:
    the formulas know none of these knobs.
    """
    B, n_t = workload.questions, workload.output_tokens
    rows = [workload.question_tokens + length for length in workload.row_lengths]
    n_s = sum(rows)
    D, E = config.encoder.width, config.decoder.width
    L_e, L_d, C = config.encoder.layers, config.decoder.layers, sum(config.cross_layers)
    return PaperFlops(
        encoder_feed_forward=B * L_e * 8 * n_s * D * D,
        encoder_projections=B * L_e * 4 * n_s * D * D,
        encoder_attention=B * L_e * 2 * sum(n * n for n in rows) * D,
        decoder_feed_forward=B * L_d * 8 * n_t * E * E,
        decoder_projections=B * L_d * 4 * n_t * E * E,
        decoder_attention=B * L_d * 2 * n_t * n_t * E,
        cross_queries=B * C * 2 * n_t * E * E,
        cross_keys=B * C * 2 * n_s * E * E,
        cross_attention=B * C * 2 * n_t * n_s * E,
    )


@dataclass(frozen=True)
class PaperShares:
    """The paper's approximation, exact for n_s much larger than n_t and d much larger than n_p.

    Attributes:
        encoder: 12 n_s d² L.
        decoder: 2 n_s d² L / K, the keys and values of cross-attention alone.
    """

    encoder: float
    decoder: float

    @property
    def decoder_share(self) -> float:
        """1/7 for equal stacks and K = 1."""
        return self.decoder / (self.encoder + self.decoder)


def paper_shares(config: ReaderConfig, workload: Workload) -> PaperShares:
    """Approximate multiplications of a batch, as the paper argues with them."""
    exact = paper_flops(config, workload)
    return PaperShares(exact.encoder_feed_forward + exact.encoder_projections, exact.cross_keys)
