"""What one ATen call costs: flops, and the length of the sums behind each element.

Products of matrices and convolutions come from torch's own counter
(``torch.utils.flop_counter``). The rest is counted here, an addition, a multiplication,
a comparison or a transcendental function as one; memory movement as none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from attrs import frozen
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

# Names of ATen operators by what an element of them costs.
_MOVES = frozenset({
    "clone", "copy", "copy_", "_to_copy", "cat", "stack", "index", "index_select", "gather",
    "embedding", "scatter", "scatter_", "index_put", "index_put_", "fill", "fill_", "zero_",
    "zeros", "ones", "full", "empty", "empty_like", "zeros_like", "ones_like", "full_like",
    "arange", "new_zeros", "new_ones", "new_full", "new_empty", "contiguous", "repeat",
    "roll", "flip", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "slice_scatter", "select_scatter",
    "masked_select", "nonzero", "tril", "triu", "lift_fresh_copy", "topk", "sort", "eye",
    "scalar_tensor", "pixel_shuffle", "pixel_unshuffle", "bernoulli", "bernoulli_", "rand",
    "randn",
})  # fmt: skip
# Flops per element of the first argument, from the formulas of two-pass implementations:
# softmax: max, subtract, exp, sum, divide; norms: mean, variance (3), normalise (2), affine (2).
_PER_INPUT = {
    "_softmax": 5,
    "_log_softmax": 5,
    "native_layer_norm": 8,
    "_fused_rms_norm": 4,
    "native_group_norm": 8,
    "var": 4,
    "std": 4,
    "var_mean": 4,
    "std_mean": 4,
    "native_batch_norm": 8,
    "cudnn_batch_norm": 8,
    "_native_batch_norm_legit": 8,
    "logsumexp": 3,
    "linalg_vector_norm": 2,
    "norm": 2,
    "cumsum": 1,
    "cumprod": 1,
}
_POOLS = frozenset({
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d",
    "mkldnn_max_pool2d",
})  # fmt: skip
_BATCH_NORMS = frozenset({
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
})  # fmt: skip


@frozen
class Cost:
    """Flops of one call, those in products of matrices apart, and its reduction length."""

    products: int = 0
    other: int = 0
    reduction: int = 1
    convolution: bool = False


def name_of(func: torch._ops.OpOverload) -> str:
    """``add`` of ``aten.add.Tensor``."""
    return str(func._schema.name).rsplit("::", 1)[-1]


def cost_of(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Cost:
    """The cost of one call with the result that it gave."""
    name = name_of(func)
    packet = func.overloadpacket
    inputs = [a for a in args if isinstance(a, torch.Tensor)]
    if name == "_scaled_dot_product_flash_attention_for_cpu":  # not in torch's registry
        shapes = [t.shape for t in inputs[:3]]
        return Cost(sdpa_flop_count(*shapes), 0, max(shapes[0][-1], shapes[1][-2]))
    if name == "mkldnn_rnn_layer":  # (steps, batch, features), weights of input and hidden state
        steps = inputs[0].shape[0] * inputs[0].shape[1]
        weights = inputs[1].numel() + inputs[2].numel()
        return Cost(2 * steps * weights, 0, max(inputs[1].shape[1], inputs[2].shape[1]))
    if name in _BATCH_NORMS and not (len(args) > 5 and args[5] is True):
        return Cost(0, 4 * inputs[0].numel(), 1)  # running statistics: nothing is summed
    if packet in flop_registry:
        flops = int(flop_registry[packet](*args, **kwargs, out_val=result))
        return Cost(flops, 0, _product_length(name, args), "conv" in name)
    outputs = [t for t in _flat(result) if isinstance(t, torch.Tensor)]
    if name in _MOVES or func.is_view or not outputs:
        return Cost()
    if name in _POOLS:
        window = math.prod(args[1])
        return Cost(0, outputs[0].numel() * window, window)
    largest = max((t.numel() for t in inputs), default=0)
    produced = max(t.numel() for t in outputs)
    per_input = _PER_INPUT.get(name)
    if per_input is None:
        # A reduction where fewer elements come out than go in, else pointwise.
        reduction = max(1, largest // max(1, produced)) if largest > produced else 1
        return Cost(0, max(largest, produced), reduction)
    return Cost(0, per_input * largest, _norm_length(name, args, largest, produced))


def _flat(result: Any) -> tuple[Any, ...] | list[Any]:
    return result if isinstance(result, (tuple, list)) else (result,)


def _product_length(name: str, args: tuple[Any, ...]) -> int:
    """K of a product: how many terms each element of the result sums."""
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if "convolution" in name:
        weight = tensors[1]
        transposed = len(args) > 6 and bool(args[6])
        return weight.numel() // max(1, weight.shape[1 if transposed else 0])
    if "attention" in name:
        return max(tensors[0].shape[-1], tensors[1].shape[-2])
    left = tensors[1] if name in ("addmm", "baddbmm") else tensors[0]
    return int(left.shape[-1])


def _norm_length(name: str, args: tuple[Any, ...], largest: int, produced: int) -> int:
    """How many elements of the input one row of a norm, softmax or scan takes in."""
    tensor = args[0]
    if name in ("_softmax", "_log_softmax", "cumsum", "cumprod"):
        return int(tensor.shape[args[1]]) if tensor.dim() else 1
    if name in ("native_layer_norm", "_fused_rms_norm"):
        return math.prod(args[1])
    if name == "native_group_norm":
        batch, groups = int(args[3]), int(args[6])
        return largest // max(1, batch * groups)
    if name in _BATCH_NORMS:
        return largest // max(1, tensor.shape[1])
    return max(1, largest // max(1, produced))
