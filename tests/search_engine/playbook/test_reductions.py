"""Reductions, norms and losses: what the analyser makes of them means what torch computes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.expression import Apply, loads, walk
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas import ALL

many = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

REDUCED = [
    "x.sum({dim})", "x.mean({dim})", "x.amax({dim})", "x.amin({dim})", "x.var({dim})",
    "x.std({dim}, correction=0)", "torch.logsumexp(x, {dim})", "torch.count_nonzero(x, {dim})",
    "torch.linalg.vector_norm(x, 2, {dim})", "torch.linalg.vector_norm(x, 1, {dim})",
    "torch.linalg.vector_norm(x, 0, {dim})", "torch.linalg.vector_norm(x, 3, {dim})",
    "torch.linalg.vector_norm(x, 2.5, {dim})", "torch.linalg.vector_norm(x, -1, {dim})",
    "torch.linalg.vector_norm(x, float('inf'), {dim})",
    "torch.linalg.vector_norm(x, float('-inf'), {dim})",
    "x.norm(p=2, dim={dim})", "x.sum({dim}, dtype=torch.float64)",
]  # fmt: skip
DIMS = ["0", "-1", "1", "(0, 2)", "(1, 2)", "(0, -1, 1)"]


@many
@given(
    chosen=st.lists(st.sampled_from(REDUCED), min_size=3, max_size=5, unique=True),
    dim=st.sampled_from(DIMS),
    keepdim=st.booleans(),
    shape=st.sampled_from(["3, 5, 7", "1, 4, 2", "2, 1, 13"]),
    special=st.booleans(),
)
def test_reductions_over_any_dims(take, means, chosen, dim, keepdim, shape, special):
    listed = f"{dim}, keepdim=True" if keepdim else dim
    values = [text.format(dim=listed if "count_nonzero" not in text else dim) for text in chosen]
    if keepdim:
        values = [text for text in values if "count_nonzero" not in text]
    captured = take(f"x=float32[{shape}]", f"return ({', '.join(values)},)")
    means(captured, special=special)


SINGLE_DIM = [
    "x.prod({dim})", "x.argmax({dim})", "x.argmin({dim})", "x.max({dim})[0]", "x.max({dim})[1]",
    "x.min({dim})[1]", "x.any({dim})", "x.all({dim})", "x.softmax({dim}).sum({dim})",
    "x.log_softmax({dim}).amax({dim})",
]  # fmt: skip


@many
@given(
    chosen=st.lists(st.sampled_from(SINGLE_DIM), min_size=3, max_size=4, unique=True),
    dim=st.integers(-3, 2),
    dtype=st.sampled_from(["float32", "float16", "float64", "int64", "int32", "uint8", "bool"]),
)
def test_reductions_over_one_dim_of_any_dtype(take, means, chosen, dim, dtype):
    unsuitable = ("softmax",) if not dtype.startswith("float") else ()
    unsuitable += ("argm", "max", "min") if dtype == "bool" else ()
    values = [t.format(dim=dim) for t in chosen if not any(word in t for word in unsuitable)]
    values.append(f"x.sum({dim})")
    captured = take(f"x={dtype}[3, 5, 6]", f"return ({', '.join(values)},)")
    means(captured, draws=[("ties", 1)], special=dtype == "float32")


WHOLE = [
    "x.sum()", "x.mean()", "x.max()", "x.min()", "x.prod()", "x.argmax()", "x.argmin()",
    "x.any()", "(x > 0).all()", "torch.count_nonzero(x)", "x.var()", "x.std(unbiased=False)",
    "x.norm()", "x.norm(p=1)", "torch.linalg.matrix_norm(x)", "torch.linalg.norm(x)",
    "x.int().sum()", "(x > 0).sum()", "(x > 0).float().mean()", "x.half().sum()",
    "(x > 0).sum(dtype=torch.int32)", "*torch.var_mean(x)", "*torch.std_mean(x, correction=0)",
    "*torch.aminmax(x)", "x.mean(dtype=torch.float64)", "torch.norm(x, p=float('inf'))",
]  # fmt: skip


@pytest.mark.parametrize("part", range(3))
def test_reductions_of_everything(take, means, part):
    captured = take("x=float32[5, 9]", f"return ({', '.join(WHOLE[part::3])},)")
    means(captured, draws=[("default", 1)], special=part == 0)


def test_an_extreme_and_its_place_are_one_statistic(take, means):
    captured = take("x=float32[6, 40]", "v, i = x.max(-1)\nreturn v, i, x.amax(-1) * 2")
    means(captured, draws=[("ties", 1)], special=True)
    assert [s.kind for s in analyse(captured.task).statistics] == ["argmax"]


NORMS = {
    "group": ("x=float32[3, 6, 5, 4]", "self.n = nn.GroupNorm(3, 6)"),
    "group of one channel": ("x=float32[2, 6, 7]", "self.n = nn.GroupNorm(6, 6, affine=False)"),
    "group of all": ("x=float16[2, 6, 7]", "self.n = nn.GroupNorm(1, 6).half()"),
    "instance 1d": ("x=float32[3, 4, 9]", "self.n = nn.InstanceNorm1d(4, affine=True)"),
    "instance 2d": ("x=float32[3, 4, 5, 5]", "self.n = nn.InstanceNorm2d(4)"),
    "instance 3d": (
        "x=float32[2, 3, 3, 4, 5]",
        "self.n = nn.InstanceNorm3d(3, affine=True, track_running_stats=True)",
    ),
    "batch of vectors": ("x=float32[6, 5]", "self.n = nn.BatchNorm1d(5)"),
    "batch 1d": ("x=float32[6, 5, 7]", "self.n = nn.BatchNorm1d(5, affine=False)"),
    "batch 2d": ("x=float16[2, 5, 4, 3]", "self.n = nn.BatchNorm2d(5).half()"),
    "batch 3d": ("x=float32[2, 3, 2, 4, 3]", "self.n = nn.BatchNorm3d(3)"),
}


@pytest.mark.parametrize("name", sorted(NORMS))
def test_norms_by_group_instance_and_batch(take, means, name):
    inputs, init = NORMS[name]
    plan = means(take(inputs, "return self.n(x)", init))
    assert len(plan.stages) == 1


def test_batch_norm_rounds_an_element_three_times(take):
    """Subtract, scale, shift: what is the same for a channel is multiplied before."""
    init = "self.n = nn.BatchNorm1d(5)"
    (store,) = analyse(take("x=float32[6, 5]", "return self.n(x)", init).task).stores
    applied = [node for node in walk(store.value) if isinstance(node, Apply)]
    of_x = [node.op for node in applied if "x" in {load.tensor for load in loads(node)}]
    assert sorted(of_x) == ["add", "mul", "sub"]


PAIRS = [
    "F.mse_loss(x, y{r})", "F.l1_loss(x, y{r})", "F.smooth_l1_loss(x, y{r}, beta=0.3)",
    "F.smooth_l1_loss(x, y{r}, beta=0)", "F.huber_loss(x, y{r}, delta=0.5)",
    "F.soft_margin_loss(x, y.sign(){r})", "F.poisson_nll_loss(x, y.abs(){r})",
    "F.poisson_nll_loss(x.abs(), y.abs() * 4, log_input=False, full=True{r})",
    "F.kl_div(x.log_softmax(-1), y.softmax(-1){r})",
    "F.kl_div(x.log_softmax(-1), y.log_softmax(-1), log_target=True{r})",
    "F.binary_cross_entropy(x.sigmoid(), y.sigmoid(){r})",
    "F.binary_cross_entropy(x.sigmoid(), y.sigmoid(), weight=y[0].abs(){r})",
    "F.binary_cross_entropy_with_logits(x * 30, y.sigmoid(){r})",
    "F.binary_cross_entropy_with_logits(x, y.sigmoid(), pos_weight=y[0].abs(){r})",
    "F.hinge_embedding_loss(x, y.sign(), margin=0.5{r})",
    "F.margin_ranking_loss(x, y, y.sign(), margin=0.5{r})",
    "F.cosine_embedding_loss(x, y, y[:, 0].sign(), margin=0.1{r})",
    "F.triplet_margin_loss(x, y, x * y, swap=True{r})",
    "F.multilabel_soft_margin_loss(x, y.sigmoid(){r})",
    "F.cross_entropy(x, y.softmax(-1), label_smoothing=0.2{r})",
    "torch.mean(torch.clamp(1 - x * y, min=0))", "F.cosine_similarity(x, y, dim=0)",
    "F.cosine_similarity(x, y[:1], dim=1)", "F.pairwise_distance(x, y, p=1.5, keepdim=True)",
    "torch.dist(x, y, 3)", "F.normalize(x, dim=0)", "F.normalize(x, p=1, dim=1)",
]  # fmt: skip


@many
@given(
    loss=st.sampled_from(PAIRS), reduction=st.sampled_from(["mean", "sum", "none"]),
    dtype=st.sampled_from(["float32", "float16"]),
)  # fmt: skip
def test_losses_of_two_tensors(take, means, loss, reduction, dtype):
    text = loss.format(r=f", reduction='{reduction}'")
    captured = take(f"x={dtype}[5, 7], y={dtype}[5, 7]", f"return {text}", arguments="x, y")
    means(captured, draws=[("normal", 1)], reach=1e-5 if dtype == "float16" else 1e-9)


CLASSES = [
    "F.cross_entropy(x, y{r})", "F.cross_entropy(x, y, ignore_index=3{r})",
    "F.cross_entropy(x, y, weight=self.w{r})",
    "F.cross_entropy(x, y, weight=self.w, ignore_index=3, label_smoothing=0.1{r})",
    "F.cross_entropy(x, y, label_smoothing=0.3{r})", "F.nll_loss(x.log_softmax(1), y{r})",
    "F.nll_loss(x.log_softmax(1), y, weight=self.w, ignore_index=0{r})",
]  # fmt: skip


@many
@given(
    loss=st.sampled_from(CLASSES), reduction=st.sampled_from(["mean", "sum", "none"]),
    places=st.sampled_from(["", "3", "2, 3"]),
)  # fmt: skip
def test_losses_of_class_indices(take, means, loss, reduction, places):
    more = f", {places}" if places else ""
    captured = take(
        f"x=float32[6, 11{more}], y=int64[6{more}]",
        f"return {loss.format(r=f', reduction={reduction!r}')}",
        "self.w = nn.Parameter(torch.rand(11))",
        arguments="x, y",
    )
    means(captured)


PLACES = [
    "x.tril()", "x.triu(1)", "x.tril(-2) + x.triu(3)", "x * torch.arange(9)",
    "x + torch.arange(2, 20, 2)", "F.one_hot(y, 12).float() * 2",
    "x.masked_fill(torch.ones(6, 9, dtype=torch.bool).tril(), 0.0)",
]  # fmt: skip


@pytest.mark.parametrize("text", PLACES)
def test_values_by_position(take, means, text):
    means(take("x=float32[6, 9], y=int64[6]", f"return {text}", arguments="x, y"))


# --- kernels ------------------------------------------------------------------------------

IDEAS = {idea.key: idea for idea in ALL}
SEVERAL = (
    "return x.argmax(1), x.min(1)[1], x.amax(1), (1 + x * 1e-3).prod(1), (x > 0).all(1), "
    "torch.count_nonzero(x, 1), x.sum(1, dtype=torch.float64), x.norm(p=3, dim=1)"
)
KERNELS = {
    "many": ("x=float32[3, 700]", SEVERAL, "warp_per_row block_per_row row_on_chip"),
    "of a large row": (
        "x=float32[2, 20000]",
        "return x.argmax(1), x.logsumexp(1), (x > 1).sum(1), x * x.argmin(1, keepdim=True)",
        "split_rows block_per_row",
    ),
    "of everything": (
        "x=float32[130, 300]", "return x.argmax(), x.std(), x.norm(), x.any()",
        "split_rows row_on_chip",
    ),
    "of integers": (
        "x=int64[3, 700]", "return x.sum(1), x.amax(1), x.argmin(1), x - x.amin(1, keepdim=True)",
        "warp_per_row block_per_row",
    ),
    "down columns": (
        "x=float32[2, 40, 9]",
        "return x.argmax(1, keepdim=True), x / x.sum(1, keepdim=True) * x.prod(1, keepdim=True)",
        "tile_of_rows",
    ),
    "of few rows apart": (
        "x=float32[2100, 40]", "return x.argmax(0), x.std(0), (x > 1).sum(0), x.mean(0)",
        "split_columns tile_of_rows",
    ),
    "of few rows apart, used again": (
        "x=float32[2100, 40]", "return x.softmax(0), x - x.mean(0)", "split_columns",
    ),
    "of halves": ("x=float16[3, 700]", SEVERAL, "warp_per_row row_on_chip"),
    "cross entropy": (
        "x=float32[6, 300], y=int64[6]", "return F.cross_entropy(x, y, reduction='none')",
        "warp_per_row block_per_row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernels_of_reductions(take, agree, name):
    inputs, forward, keys = KERNELS[name]
    captured = take(inputs, forward, arguments="x, y" if "y=" in inputs else "x")
    program = analyse(captured.task)
    sources = []
    for key in keys.split():
        assert IDEAS[key].applies(program, H200), key
        variant = IDEAS[key].variants(program, H200)[0]
        sources.append(IDEAS[key].render(program, variant, H200))
    agree(captured, sources, draws=[("normal", 1)])


def test_kernels_of_special_values(take, cpu):
    """The first NaN is the extreme, of equal ones the first; infinities sum to themselves."""
    captured = take("x=float32[6, 300]", "return (*x.max(1), *x.min(1), x.sum(1), x.norm(dim=1))")
    program = analyse(captured.task)
    keys = ("warp_per_row", "block_per_row", "row_on_chip")
    sources = [IDEAS[k].render(program, IDEAS[k].variants(program, H200)[0], H200) for k in keys]
    tensors = captured.tensors(captured.draw(1, "ties"))
    x = tensors["x"]
    x[0, [70, 140, 290]] = math.nan
    x[1] = -math.inf
    x[2, 250] = math.inf
    x[3, [3, 200]] = torch.tensor([math.inf, -math.inf])
    x[4] = 1e-40
    call = [*x.max(1), *x.min(1), x.sum(1), x.norm(dim=1)]
    for built in cpu.compile([parse(source) for source in sources], captured.task):
        outputs = cpu.execute(built, captured.task, tensors, checked=True).outputs
        for spec, expected in zip(captured.task.outputs, call, strict=True):
            out = outputs[spec.name]
            assert torch.allclose(out.double(), expected.double(), rtol=1e-5, equal_nan=True), spec


def test_a_long_sum_of_equal_terms_keeps_its_digits(take, cpu):
    """65,536 exponentials near 1, 256 of them to a thread: rounding errors of one sign."""
    captured = take("x=float32[1, 65536]", "return x.softmax(1)")
    program = analyse(captured.task)
    plans = [
        ("row_on_chip", Variant.of(threads=256, registers=50, vector=4, prefetch="no", once="no")),
        ("block_per_row", Variant.of(threads=256, vector=1, unroll=4, back="no")),
    ]
    sources = [IDEAS[key].render(program, variant, H200) for key, variant in plans]
    tensors = captured.tensors(captured.draw(1, "tiny"))
    exact = tensors["x"].double().softmax(1)
    for built in cpu.compile([parse(source) for source in sources], captured.task):
        out = cpu.execute(built, captured.task, tensors, checked=False).outputs["out"]
        error = torch.linalg.vector_norm(out.double() - exact) / torch.linalg.vector_norm(exact)
        assert error < 2e-7
