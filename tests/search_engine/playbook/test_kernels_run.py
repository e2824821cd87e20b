"""Every idea's kernels, executed on the cpu device's checking build and held against fp64."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas import ALL

IDEAS = {idea.key: idea for idea in ALL}

# Each shape or dtype is a build; a fixture that makes files is fine to share between examples.
few = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

POINTWISE = [
    "x.neg()", "x.abs()", "(x.abs() + 0.5).reciprocal()", "x.abs().sqrt()",
    "(x.abs() + 0.1).rsqrt()", "x.clamp(-9, 9).exp()", "x.clamp(-9, 9).expm1()",
    "(x.abs() + 0.1).log()", "x.abs().log1p()", "(x.abs() + 0.1).log2()", "x.sin()", "x.cos()",
    "x.tanh()", "x.erf()", "x.floor()", "x.round()", "x.sigmoid()", "F.silu(x)", "F.mish(x)",
    "F.hardsigmoid(x)", "F.hardswish(x)", "F.gelu(x)", "F.gelu(x, approximate='tanh')",
    "F.softplus(x)", "F.softplus(x, beta=2.0, threshold=5.0)", "F.elu(x, alpha=0.7)", "F.selu(x)",
    "F.celu(x, alpha=0.7)", "F.leaky_relu(x, 0.2)", "F.relu6(x)", "F.hardtanh(x, -0.5, 2.0)",
    "F.softsign(x)", "F.logsigmoid(x)", "F.threshold(x, 0.1, -3.0)", "F.relu(x)",
    "x.clamp_min(0.1)",
    "x + r * 0.5", "torch.add(x, r, alpha=3)", "torch.sub(x, r, alpha=2)", "1.5 - x",
    "x / (r.abs() + 1)", "2 / (x.abs() + 1)", "x ** 2", "x ** 3", "x.abs() ** 0.5",
    "(x.abs() + 0.1) ** 1.7", "torch.where(x > r, x, r * 2)", "x.masked_fill(r < 0, -1.0)",
    "torch.maximum(x, r)", "torch.minimum(x, r)", "torch.lerp(x, r, 0.3)",
    "torch.addcmul(x, x, r, value=0.5)", "x >= r",
    "(x > 0) & (r > 0)", "(x > 0) ^ (r > 0)", "~(x > 0)",
    "x.to(torch.float16)", "(x * 3).to(torch.int32)", "F.dropout(x * 3, 0.5, training=False)",
    "torch.where(x > 0, x, 0.0)", "x.square()", "torch.clamp(x, min=r)", "torch.atan2(x, r)",
    "torch.where(x > 0, torch.full_like(x, -2.5), x)", "torch.where(x > r, torch.zeros_like(x), r)",
    "x * torch.ones_like(r) + torch.full((5, 1), 3.0)", "x + x.new_full((13,), 2)",
    "torch.full_like(x, float('-inf')).maximum(x)", "torch.remainder(x, -0.7)",
    "torch.remainder((x * 9).to(torch.int32), 7)", "torch.remainder((x * 9).to(torch.int64), -7)",
    "torch.fmod((x * 9).to(torch.int32), 7)", "(x * 9).to(torch.int32) // 4",
]  # fmt: skip


@pytest.mark.parametrize("part", range(4))
def test_every_pointwise_operator(take, agree, part):
    """Many operators at a time, as outputs of one kernel."""
    chosen = POINTWISE[part::4]
    captured = take(
        "x=float32[5, 13], r=float32[5, 13]",
        f"return ({', '.join(chosen)},)",
        arguments="x, r",
    )
    program = analyse(captured.task)
    idea = IDEAS["fuse_chain"]
    variant = idea.variants(program, H200)[1]
    agree(captured, [idea.render(program, variant, H200)], draws=[("normal", 3)])


def all_variants(captured, key: str, most: int = 2) -> list[str]:
    program = analyse(captured.task)
    idea = IDEAS[key]
    assert idea.applies(program, H200), f"{key} does not apply"
    return [idea.render(program, v, H200) for v in idea.variants(program, H200)[:most]]


@few
@given(
    shape=st.sampled_from(["1", "31", "1024, 3", "2, 3, 64", "1, 7, 1"]),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
)
def test_chains_of_any_shape_and_dtype(take, agree, shape, dtype):
    captured = take(
        f"x={dtype}[{shape}], r={dtype}[{shape}]",
        "return F.gelu(x * 1.5 + 0.5) + r, x * r",
        arguments="x, r",
    )
    agree(captured, all_variants(captured, "fuse_chain"))


def test_chains_with_broadcasting_and_strides(take, agree):
    captured = take(
        "x=float32[4, 6, 10], r=float32[6, 4, 10]",
        "return F.relu(x * self.w + self.b) + r.transpose(0, 1), x[:, ::2].flatten(1)[:, :30] * 0",
        "self.w = nn.Parameter(torch.ones(10))\nself.b = nn.Parameter(torch.ones(6, 1))",
        arguments="x, r",
    )
    with pytest.raises(Exception, match="unrelated shapes"):
        analyse(captured.task)
    captured = take(
        "x=float32[4, 6, 10], r=float32[6, 4, 10]",
        "return F.relu(x * self.w + self.b) + r.transpose(0, 1)",
        "self.w = nn.Parameter(torch.ones(10))\nself.b = nn.Parameter(torch.ones(6, 1))",
        arguments="x, r",
    )
    agree(captured, all_variants(captured, "fuse_chain", 2))


NORMS = {
    "layer_norm": ("return F.gelu(self.n(x + r)) + r", "self.n = nn.LayerNorm({n})"),
    "softmax": ("return (x * 2 + r).softmax(-1)", "pass"),
    "log_softmax": ("return F.log_softmax(x, -1) + r", "pass"),
    "rms_norm": ("return self.n(x) * torch.sigmoid(r)", "self.n = nn.RMSNorm({n}, eps=1e-6)"),
    "normalize": ("return F.normalize(x, dim=-1), x.std(-1, keepdim=True) + 0 * r[:, :1]", "pass"),
}


@few
@given(
    norm=st.sampled_from(sorted(NORMS)),
    rows=st.integers(1, 9),
    columns=st.sampled_from([1, 2, 7, 24, 64, 331]),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
)
def test_a_warp_per_row(take, agree, norm, rows, columns, dtype):
    forward, init = NORMS[norm]
    columns = max(columns, 2)
    captured = take(
        f"x={dtype}[{rows}, {columns}], r={dtype}[{rows}, {columns}]",
        forward,
        init.format(n=columns) + ("" if init == "pass" else f".to(torch.{dtype})"),
        arguments="x, r",
    )
    agree(captured, all_variants(captured, "warp_per_row"), draws=[("normal", 1)])


@few
@given(
    key=st.sampled_from(["row_on_chip", "block_per_row"]),
    norm=st.sampled_from(sorted(NORMS)),
    columns=st.sampled_from([257, 1000, 2048]),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_a_block_per_row(take, agree, key, norm, columns, dtype):
    forward, init = NORMS[norm]
    captured = take(
        f"x={dtype}[3, {columns}], r={dtype}[3, {columns}]",
        forward,
        init.format(n=columns) + ("" if init == "pass" else f".to(torch.{dtype})"),
        arguments="x, r",
    )
    agree(captured, all_variants(captured, key), draws=[("normal", 1)])


def test_a_block_that_stays_and_prefetches(take, agree):
    captured = take("x=float32[135, 512]", "return x.softmax(-1)")
    program = analyse(captured.task)
    idea = IDEAS["row_on_chip"]
    variant = Variant.of(threads=128, registers=50, vector=2, prefetch="yes", once="yes")
    assert idea.valid(program, variant, H200)
    agree(captured, [idea.render(program, variant, H200)], draws=[("normal", 1)])


@pytest.mark.parametrize("norm", ["layer_norm", "softmax"])
def test_a_row_on_many_blocks(take, agree, norm):
    forward, init = NORMS[norm]
    columns = 20_000
    captured = take(
        f"x=float32[2, {columns}], r=float32[2, {columns}]",
        forward,
        init.format(n=columns),
        arguments="x, r",
    )
    agree(captured, all_variants(captured, "split_rows", 2))


@pytest.mark.parametrize("held", [100, 50])
def test_a_row_on_the_whole_chip(take, agree, held):
    """Its grid is four blocks on the cpu device, so most of a row is streamed there."""
    columns = 65_664
    captured = take(
        f"x=float32[3, {columns}]", "return self.n(x)", f"self.n = nn.LayerNorm({columns})"
    )
    program = analyse(captured.task)
    idea = IDEAS["chip_as_buffer"]
    variant = Variant.of(threads=256, parked=100, held=held, once="yes")
    agree(captured, [idea.render(program, variant, H200)], draws=[("mean1000", 2)])


@pytest.mark.parametrize("forward", ["return x.softmax(1)", "return x - x.mean(1, keepdim=True)"])
def test_rows_that_lie_apart(take, agree, forward):
    captured = take("x=float32[2, 19, 5, 7]", forward)
    agree(captured, all_variants(captured, "tile_of_rows", 2))


@pytest.mark.parametrize("key", ["block_per_row", "row_on_chip"])
def test_results_of_rows_and_of_everything(take, agree, key):
    """One value per row, and one value in all, keep their digits about a mean of 1,000."""
    captured = take("x=float32[3, 700]", "return torch.logsumexp(x, 1), x.std(1), x.mean(1)")
    agree(captured, all_variants(captured, key))
    captured = take(
        "x=float32[3, 700], r=float32[3, 700]", "return ((x - r) ** 2).mean()", arguments="x, r"
    )
    agree(captured, all_variants(captured, key))


def test_columns_of_several_axes(take, agree):
    captured = take(
        "x=float32[2, 6, 260]",
        "return self.n(F.silu(x + self.b)) * self.b",
        "self.n = nn.LayerNorm([6, 260])\nself.b = nn.Parameter(torch.ones(6, 1))",
    )
    sources = all_variants(captured, "block_per_row", 1) + all_variants(captured, "row_on_chip", 1)
    agree(captured, sources)


SEVERAL = {
    "norm of norm": (
        "return self.b(F.gelu(self.a(x)) + x)",
        "self.a = nn.LayerNorm(700)\nself.b = nn.LayerNorm(700)",
    ),
    "softmax of softmax": ("return (x.softmax(-1) * 9).softmax(-1)", "pass"),
    # "rest" is also what the moments' second pass would call a variable of its own.
    "side by side": (
        "return x.softmax(-1) + rest.softmax(-1) + self.a(rest) + self.a(x)",
        "self.a = nn.LayerNorm(700)",
    ),
}


@pytest.mark.parametrize("name", sorted(SEVERAL))
def test_several_statistics_of_one_kind(take, agree, name):
    forward, init = SEVERAL[name]
    side = name == "side by side"
    inputs = "x=float32[3, 700]" + (", rest=float32[3, 700]" if side else "")
    captured = take(inputs, forward, init, "x, rest" if side else "x")
    sources = [all_variants(captured, key, 1)[0]
               for key in ("warp_per_row", "row_on_chip", "block_per_row")]  # fmt: skip
    agree(captured, sources, draws=[("normal", 1)])


def test_statistics_on_the_whole_chip_that_load_the_same(take, agree):
    """Each sums another product of x and w: both loaded twice, and for the result again."""
    columns = 65_664
    captured = take(
        f"x=float32[2, {columns}], w=float32[{columns}]",
        "a = (x * w).mean(-1, keepdim=True)\nb = (x * w * w).mean(-1, keepdim=True)\n"
        "return x * a + x * b + x.amax(-1, keepdim=True)",
        arguments="x, w",
    )
    idea = IDEAS["chip_as_buffer"]
    variant = Variant.of(threads=256, parked=25, held=50, once="yes")
    program = analyse(captured.task)
    assert idea.valid(program, variant, H200)
    agree(captured, [idea.render(program, variant, H200)], draws=[("normal", 1)])


def test_tensors_named_like_the_templates_variables(take, agree):
    names = ["count", "tile", "rest", "own_total", "rows", "p"]
    tensors = ", ".join(f"{name}=float32[2, 700]" for name in names)
    captured = take(tensors, f"return {' + '.join(names)}", arguments=", ".join(names))
    agree(captured, all_variants(captured, "fuse_chain", 1), draws=[("normal", 1)])
    captured = take(
        tensors, f"return ({' + '.join(names)}).softmax(-1)", arguments=", ".join(names)
    )
    sources = [all_variants(captured, key, 1)[0]
               for key in ("warp_per_row", "row_on_chip", "block_per_row")]  # fmt: skip
    agree(captured, sources, draws=[("normal", 1)])


SINGLE = [
    "x.softmax(-1)",
    "x.log_softmax(-1) + x",
    "x.sum(-1)",
    "x - x.mean(-1, keepdim=True)",
    "x.logsumexp(-1)",
    "x.amax(-1)",
    "x.norm(dim=-1)",
    "self.n(x)",
    "x.var(-1, unbiased=False)",
    "F.normalize(x, dim=-1)",
]


def test_a_reduction_over_one_element_is_pointwise(take, agree):
    captured = take(
        "x=float32[5, 13, 1]", f"return ({', '.join(SINGLE)},)", "self.n = nn.LayerNorm(1)"
    )
    program = analyse(captured.task)
    assert program.is_pointwise
    agree(captured, all_variants(captured, "fuse_chain", 1), draws=[("normal", 1)])


def test_a_reduction_over_one_element_beside_one_over_many(take, agree):
    """They are no one statistic, though each is a softmax of the same values."""
    captured = take("x=float32[130, 1]", "return x.softmax(1) * 3 + x.softmax(0)")
    agree(captured, all_variants(captured, "warp_per_row", 1), draws=[("normal", 1)])


def test_infinities_come_through_a_softmax(take, cpu):
    """A row with −inf entries (a mask) must not turn into NaN in the one-pass form."""
    captured = take("x=float32[2, 300]", "return x.softmax(-1)")
    call = captured.draw(1)
    tensors = captured.tensors(call)
    tensors["x"][0, :256] = float("-inf")
    exact = tensors["x"].double().softmax(-1)
    sources = all_variants(captured, "block_per_row", 1) + all_variants(captured, "warp_per_row", 1)
    for program in cpu.compile([parse(s) for s in sources], captured.task):
        out = cpu.execute(program, captured.task, tensors, checked=True).outputs["out"]
        assert torch.allclose(out.double(), exact, atol=1e-7)


@pytest.mark.parametrize(
    ("key", "dim"), [("block_per_row", 1), ("warp_per_row", 1), ("tile_of_rows", 0)]
)
def test_a_nan_comes_through_a_logsumexp(take, cpu, key, dim):
    """Alone in its row, and beside an infinity; a row of −inf stays −inf."""
    shape = [4, 300] if dim else [300, 4]
    captured = take(f"x=float32{shape}", f"return x.logsumexp({dim})")
    x = torch.zeros(4, 300)
    x[0] = float("nan")
    x[1, 5], x[1, 9] = float("inf"), float("nan")
    x[2] = float("-inf")
    x = x if dim else x.T.contiguous()
    source = all_variants(captured, key, 1)[0]
    for program in cpu.compile([parse(source)], captured.task):
        out = cpu.execute(program, captured.task, {"x": x}, checked=True).outputs["out"]
        torch.testing.assert_close(out, x.logsumexp(dim), equal_nan=True)
