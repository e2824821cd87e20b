"""Attention as the products, the scale and the softmax that it is.

``ATTENTION`` holds the rules: what ``scaled_dot_product_attention`` computes by the formula in
torch's documentation, with the rows that a mask closes altogether as zeros.
"""

from __future__ import annotations

import math

from search_engine.graph import Ref
from search_engine.playbook.decompose import Builder, Rule, Shape, broadcast_shape
from search_engine.playbook.program import Unsupported


def _scaled_dot_product(b: Builder) -> Ref:
    """``scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=, enable_gqa=)``.

    softmax(q · kᵀ · scale + mask) · v over [..., L, E], [..., S, E] and [..., S, V].
    """
    q, k, v = b.ref(0, "query"), b.ref(1, "key"), b.ref(2, "value")
    mask, causal = b.given(3, "attn_mask"), bool(b.given(5, "is_causal", False))
    if b.given(4, "dropout_p", 0.0):
        raise Unsupported(f"No playbook idea covers {b.node.op} with dropout: it is random.")
    given = b.given(6, "scale")
    scale = given if isinstance(given, (int, float)) else 1 / math.sqrt(b.shape(q)[-1])
    if b.given(7, "enable_gqa", False) and b.shape(q)[-3] != b.shape(k)[-3]:
        if isinstance(mask, Ref):
            raise Unsupported(f"No playbook idea covers {b.node.op} of shared heads with a mask.")
        q, k, v = _shared_heads(b, q, k, v)
    scores = b.mul(_product(b, q, _turned(b, k), b.work), scale)
    rows, columns = b.shape(scores)[-2:]
    if causal:
        row = b.view(_range(b, rows), (rows, 1))
        scores = b.where(b.compare("ge", row, _range(b, columns)), scores, -math.inf)
    if isinstance(mask, Ref):
        allowed = b.tensor(mask).dtype == "bool"
        scores = b.where(mask, scores, -math.inf) if allowed else b.plus(scores, mask)
    # The second product takes its factors in one dtype, as tensor cores do.
    dtype = b.tensor(v).dtype
    weights = b.add("aten.softmax.int", scores, -1, shape=b.shape(scores), dtype=dtype)
    if isinstance(mask, Ref):
        # torch gives zeros where a mask leaves nothing to attend to, not the softmax's NaN.
        closed = b.compare("eq", b.reduce("amax.default", scores, (-1,), keepdim=True), -math.inf)
        weights = b.add("aten.where.self", closed, 0.0, weights, shape=b.shape(scores), dtype=dtype)
    out = _product(b, weights, v, b.node.dtype)
    return out if b.shape(out) == b.node.shape else b.view(out, b.node.shape)


def _product(b: Builder, first: Ref, second: Ref, dtype: str) -> Ref:
    one, two = b.shape(first), b.shape(second)
    batch = broadcast_shape([one[:-2], two[:-2]])
    shape = (*batch, one[-2], two[-1])
    return b.add("aten.matmul.default", first, second, shape=shape, dtype=dtype)


def _turned(b: Builder, k: Ref) -> Ref:
    *batch, rows, columns = b.shape(k)
    shape: Shape = (*batch, columns, rows)
    return b.add("aten.transpose.int", k, -2, -1, shape=shape, dtype=b.tensor(k).dtype)


def _shared_heads(b: Builder, q: Ref, k: Ref, v: Ref) -> tuple[Ref, Ref, Ref]:
    """Heads of q in groups, each of which reads one head of k and v (repeat_interleave)."""
    *batch, heads, rows, width = b.shape(q)
    own = b.shape(k)[-3]
    grouped = b.view(q, (*batch, own, heads // own, rows, width))
    one, two = (b.view(t, (*b.shape(t)[:-2], 1, *b.shape(t)[-2:])) for t in (k, v))
    return grouped, one, two


def _range(b: Builder, size: int) -> Ref:
    return b.add("aten.arange.default", size, shape=(size,), dtype="int64")


ATTENTION: dict[str, Rule] = {"scaled_dot_product_attention": _scaled_dot_product}
