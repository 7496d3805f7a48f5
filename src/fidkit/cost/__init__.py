"""What a reader costs before it runs: operations, bytes, time and memory, as functions of its config.

    workload, weights -> parts -> flops, traffic, memory, training, roofline -> hints -> plan

No torch here, and of fidkit only its configuration. `fidkit plan` prints all of it.
"""

from fidkit.cost.flops import exact_flops, paper_flops, paper_shares, total_flops
from fidkit.cost.hardware import HARDWARE, Efficiency, Hardware, find_hardware
from fidkit.cost.hints import Hint, best, suggest
from fidkit.cost.parts import Part, list_parts
from fidkit.cost.plan import CostPlan, make_plan
from fidkit.cost.ram import BatchBytes, batch_bytes, largest, largest_batch
from fidkit.cost.roofline import Build, Prediction, StageTime, build, predict
from fidkit.cost.store import store_bytes
from fidkit.cost.traffic import (
    Intensities,
    cross_cache_bytes,
    paper_intensities,
    self_cache_bytes,
    step_bytes,
    step_weight_bytes,
)
from fidkit.cost.training import (
    Activations,
    TrainingBytes,
    training_activations,
    training_bytes,
    training_state_bytes,
)
from fidkit.cost.weights import parameters, weight_bytes
from fidkit.cost.workload import Workload, context_vectors

__all__ = [
    "HARDWARE",
    "Activations",
    "BatchBytes",
    "Build",
    "CostPlan",
    "Efficiency",
    "Hardware",
    "Hint",
    "Intensities",
    "Part",
    "Prediction",
    "StageTime",
    "TrainingBytes",
    "Workload",
    "batch_bytes",
    "best",
    "build",
    "context_vectors",
    "cross_cache_bytes",
    "exact_flops",
    "find_hardware",
    "largest",
    "largest_batch",
    "list_parts",
    "make_plan",
    "paper_flops",
    "paper_intensities",
    "paper_shares",
    "parameters",
    "predict",
    "self_cache_bytes",
    "step_bytes",
    "step_weight_bytes",
    "store_bytes",
    "suggest",
    "total_flops",
    "training_activations",
    "training_bytes",
    "training_state_bytes",
    "weight_bytes",
]
