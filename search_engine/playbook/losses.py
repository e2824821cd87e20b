"""torch's losses as the formulas that ATen computes, elementwise, then averaged or summed."""

from __future__ import annotations

import math

from search_engine.graph import Argument, Ref
from search_engine.playbook.decompose import Builder, Rule, distance
from search_engine.playbook.program import Unsupported


def _difference(b: Builder) -> Ref:
    return b.sub(b.ref(0, "self"), b.ref(1, "target"))


def _mse(b: Builder) -> Ref:
    d = _difference(b)
    return b.averaged(b.mul(d, d), 2)


def _l1(b: Builder) -> Ref:
    return b.averaged(b.unary("abs", _difference(b)), 2)


def _smooth_l1(b: Builder) -> Ref:
    """x²/(2β) up to β, then |x| − β/2."""
    beta, size = b.number(3, "beta", 1.0), b.unary("abs", _difference(b))
    if beta == 0:
        return b.averaged(size, 2)
    inner = b.mul(b.mul(size, size), 0.5 / beta)
    return b.averaged(b.where(b.compare("lt", size, beta), inner, b.sub(size, beta / 2)), 2)


def _huber(b: Builder) -> Ref:
    """x²/2 up to δ, then δ·(|x| − δ/2)."""
    delta, size = b.number(3, "delta", 1.0), b.unary("abs", _difference(b))
    inner = b.mul(b.mul(size, size), 0.5)
    outer = b.mul(b.sub(size, delta / 2), delta)
    return b.averaged(b.where(b.compare("lt", size, delta), inner, outer), 2)


def _kl_div(b: Builder) -> Ref:
    """t·(log t − x), 0 where t is; ``log_target``: exp(t)·(t − x)."""
    x, t = b.ref(0, "self"), b.ref(1, "target")
    if b.given(3, "log_target", False):
        return b.averaged(b.mul(b.unary("exp", t), b.sub(t, x)), 2)
    entropy = b.where(b.compare("eq", t, 0), 0.0, b.mul(t, b.unary("log", t)))
    return b.averaged(b.sub(entropy, b.mul(t, x)), 2)


def _weighted(b: Builder, loss: Ref, weight: Argument) -> Ref:
    return b.mul(loss, weight) if isinstance(weight, Ref) else loss


def _binary_cross_entropy(b: Builder) -> Ref:
    """(t − 1)·max(log(1 − x), −100) − t·max(log x, −100)."""
    x, t = b.ref(0, "self"), b.ref(1, "target")
    miss = b.at_least(b.unary("log1p", b.unary("neg", x)), -100.0)
    hit = b.at_least(b.unary("log", x), -100.0)
    loss = b.sub(b.mul(b.sub(t, 1.0), miss), b.mul(t, hit))
    return b.averaged(_weighted(b, loss, b.given(2, "weight")), 3)


def _binary_cross_entropy_with_logits(b: Builder) -> Ref:
    """(1 − t)·x + weight·(log(1 + exp(−|x|)) + max(−x, 0)), whatever the size of x."""
    x, t, positive = b.ref(0, "self"), b.ref(1, "target"), b.given(3, "pos_weight")
    tail = b.unary("log1p", b.unary("exp", b.unary("neg", b.unary("abs", x))))
    log_loss = b.plus(tail, b.unary("relu", b.unary("neg", x)))
    if isinstance(positive, Ref):
        log_loss = b.mul(log_loss, b.plus(b.mul(t, b.sub(positive, 1.0)), 1.0))
    loss = b.plus(b.mul(b.sub(1.0, t), x), log_loss)
    return b.averaged(_weighted(b, loss, b.given(2, "weight")), 4)


def _soft_margin(b: Builder) -> Ref:
    """log(1 + exp(−t·x))."""
    product = b.mul(b.ref(0, "self"), b.ref(1, "target"))
    return b.averaged(b.unary("log1p", b.unary("exp", b.unary("neg", product))), 2)


def _poisson_nll(b: Builder) -> Ref:
    """exp(x) − t·x, or x − t·log(x + eps); ``full`` adds Stirling's approximation of log t!."""
    x, t = b.ref(0, "input"), b.ref(1, "target")
    if b.given(2, "log_input", True):
        loss = b.sub(b.unary("exp", x), b.mul(t, x))
    else:
        loss = b.sub(x, b.mul(t, b.unary("log", b.plus(x, b.number(4, "eps", 1e-8)))))
    if b.given(3, "full", False):
        log_t = b.unary("log", t)
        half = b.mul(b.plus(log_t, math.log(2 * math.pi)), 0.5)
        stirling = b.plus(b.sub(b.mul(t, log_t), t), half)
        loss = b.plus(loss, b.where(b.compare("le", t, 1), 0.0, stirling))
    return b.averaged(loss, 5)


def _hinge_embedding(b: Builder) -> Ref:
    """x where t = 1, max(margin − x, 0) where t = −1."""
    x, t = b.ref(0, "self"), b.ref(1, "target")
    far = b.at_least(b.sub(b.number(2, "margin", 1.0), x), 0.0)
    unlike = b.where(b.compare("ne", t, 1), far, 0.0)
    return b.averaged(b.plus(unlike, b.where(b.compare("ne", t, -1), x, 0.0)), 3)


def _margin_ranking(b: Builder) -> Ref:
    """max(−t·(x₁ − x₂) + margin, 0)."""
    gap = b.mul(b.sub(b.ref(0, "input1"), b.ref(1, "input2")), b.ref(2, "target"))
    return b.averaged(b.at_least(b.sub(b.number(3, "margin", 0.0), gap), 0.0), 4)


def _cosine_embedding(b: Builder) -> Ref:
    """1 − cos where t = 1, max(cos − margin, 0) where t = −1."""
    x, y, t = b.ref(0, "input1"), b.ref(1, "input2"), b.ref(2, "target")
    dim = (b.rank(t),)  # 1 for a batch, 0 for a single pair
    squares = [b.plus(b.sum(b.mul(v, v), dim), 1e-12) for v in (x, y)]
    cosine = b.div(b.sum(b.mul(x, y), dim), b.unary("sqrt", b.mul(*squares)))
    like = b.where(b.compare("eq", t, 1), b.sub(1.0, cosine), 0.0)
    far = b.at_least(b.sub(cosine, b.number(3, "margin", 0.0)), 0.0)
    return b.averaged(b.plus(like, b.where(b.compare("eq", t, -1), far, 0.0)), 4)


def _triplet_margin(b: Builder) -> Ref:
    """max(margin + d(anchor, positive) − d(anchor, negative), 0)."""
    anchor, positive, negative = (
        b.ref(i, n) for i, n in enumerate(("anchor", "positive", "negative"))
    )
    order, eps = b.given(4, "p", 2.0), b.number(5, "eps", 1e-6)
    near = distance(b, anchor, positive, order, eps, False)
    far = distance(b, anchor, negative, order, eps, False)
    if b.given(6, "swap", False):
        far = b.pointwise(
            "minimum.default", far, distance(b, positive, negative, order, eps, False)
        )
    return b.averaged(b.at_least(b.plus(b.sub(near, far), b.number(3, "margin", 1.0)), 0.0), 7)


# --- class indices ------------------------------------------------------------------------


def _classes(b: Builder, x: Ref) -> int:
    """The dimension of the classes."""
    return 1 if b.rank(x) > 1 else 0


def _is_target(b: Builder, x: Ref, target: Ref) -> Ref:
    """bool, true at each place's target class: the gather of torch as a comparison."""
    dim, shape = _classes(b, x), b.shape(x)
    classes = b.add("aten.arange.default", shape[dim], shape=(shape[dim],), dtype="int64")
    laid = b.along(classes, dim, len(shape))
    wanted = b.view(target, (*shape[:dim], 1, *shape[dim + 1 :]))
    return b.compare("eq", laid, wanted)


def _mean_by_class(
    b: Builder, losses: Ref, target: Ref, weights: Ref | None, ignored: Argument, at: int
) -> Ref:
    """Losses of class indices, reduced: ignored ones are 0 and do not count in a mean."""
    counted = b.compare("ne", target, ignored if isinstance(ignored, int) else -100)
    losses = b.where(counted, losses, 0.0)
    if b.given(at, "reduction", 1) != 1:
        return b.averaged(losses, at)
    shares = b.where(counted, 1.0 if weights is None else weights, 0.0)
    return b.div(b.sum(losses), b.sum(shares))


def _target_weights(b: Builder, x: Ref, is_target: Ref, weight: Argument) -> Ref | None:
    """The weight of each place's target class."""
    if not isinstance(weight, Ref):
        return None
    dim = _classes(b, x)
    return b.sum(b.where(is_target, b.along(weight, dim, b.rank(x)), 0.0), (dim,))


def _nll(b: Builder) -> Ref:
    """``nll_loss(x, target, weight, reduction, ignore_index)``: −x at the target."""
    x, target, weight = b.ref(0, "self"), b.ref(1, "target"), b.given(2, "weight")
    dim, is_target = _classes(b, x), _is_target(b, x, target)
    losses = b.unary("neg", b.sum(b.where(is_target, x, 0.0), (dim,)))
    weights = _target_weights(b, x, is_target, weight)
    losses = losses if weights is None else b.mul(losses, weights)
    return _mean_by_class(b, losses, target, weights, b.given(4, "ignore_index", -100), 3)


def _cross_entropy(b: Builder) -> Ref:
    """``cross_entropy_loss(x, target, weight, reduction, ignore_index, label_smoothing)``."""
    x, target, weight = b.ref(0, "self"), b.ref(1, "target"), b.given(2, "weight")
    smoothing, dim = b.number(5, "label_smoothing", 0.0), _classes(b, x)
    if b.tensor(target).dtype.startswith(("float", "bfloat")):
        return _soft_cross_entropy(b, x, target, weight, smoothing, dim)
    # Distances to the maximum first: the difference of two large numbers would lose digits.
    top = b.reduce("amax.default", x, (dim,), keepdim=True)
    total = b.sum(b.unary("exp", b.sub(x, top)), (dim,))
    log_total = b.unary("log", total)
    is_target = _is_target(b, x, target)
    below = b.sub(b.sum(b.where(is_target, x, 0.0), (dim,)), b.view(top, b.shape(total)))
    losses = b.sub(log_total, below)
    weights = _target_weights(b, x, is_target, weight)
    losses = losses if weights is None else b.mul(losses, weights)
    if smoothing:
        shape = b.shape(x)
        each = b.sub(b.view(log_total, b.shape(top)), b.sub(x, top))  # −log softmax
        if isinstance(weight, Ref):
            each = b.mul(each, b.along(weight, dim, len(shape)))
        smooth = b.mul(b.sum(each, (dim,)), smoothing / shape[dim])
        losses = b.plus(b.mul(losses, 1 - smoothing), smooth)
    return _mean_by_class(b, losses, target, weights, b.given(4, "ignore_index", -100), 3)


def _soft_cross_entropy(
    b: Builder, x: Ref, target: Ref, weight: Argument, smoothing: float, dim: int
) -> Ref:
    """Targets are probabilities: −Σ t·log softmax(x)."""
    shape = b.shape(x)
    if smoothing:
        target = b.plus(b.mul(target, 1 - smoothing), smoothing / shape[dim])
    log = b.add("aten.log_softmax.int", x, dim, shape=shape, dtype=b.work)
    terms = b.mul(log, target)
    if isinstance(weight, Ref):
        terms = b.mul(terms, b.along(weight, dim, len(shape)))
    losses = b.unary("neg", b.sum(terms, (dim,)))
    return b.averaged(losses, 3)


def _refused(b: Builder) -> Ref:
    raise Unsupported(f"No playbook idea covers {b.node.op} yet.")


LOSSES: dict[str, Rule] = {
    "mse_loss": _mse,
    "l1_loss": _l1,
    "smooth_l1_loss": _smooth_l1,
    "huber_loss": _huber,
    "kl_div": _kl_div,
    "binary_cross_entropy": _binary_cross_entropy,
    "binary_cross_entropy_with_logits": _binary_cross_entropy_with_logits,
    "soft_margin_loss": _soft_margin,
    "poisson_nll_loss": _poisson_nll,
    "hinge_embedding_loss": _hinge_embedding,
    "margin_ranking_loss": _margin_ranking,
    "cosine_embedding_loss": _cosine_embedding,
    "triplet_margin_loss": _triplet_margin,
    "nll_loss": _nll,
    "nll_loss_nd": _nll,
    "nll_loss2d": _nll,
    "cross_entropy_loss": _cross_entropy,
}
