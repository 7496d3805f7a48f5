"""T5, in its two versions (arXiv 1910.10683; v1.1 with the gated layer of arXiv 2002.05202)."""

from __future__ import annotations

from fidkit.families.record import Family

MODULES = "fidkit.nn.families.t5"

T5 = Family(
    name="t5",
    modules=MODULES,
    feed_forward_keeps=(1, 2),  # the activation, and what dropout leaves of it
    kernels="t5",
)
T5_V1_1 = Family(
    name="t5-v1.1",
    modules=MODULES,
    feed_forward_inputs=2,
    feed_forward_keeps=(4, 4),  # gate, its activation, inner, their product
    kernels="t5",
)
