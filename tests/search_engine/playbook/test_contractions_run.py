"""Tiled contractions, executed on the cpu device's checking build and held against fp64."""

import pytest
import torch
from attrs import evolve
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas import ALL

IDEAS = {idea.key: idea for idea in ALL}

few = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def knobs(**changed):
    """What a variant changes of ``SMALL``."""
    return changed


SMALL = knobs(
    tile="32x64", depth=16, warps=4, stages=3, copies="async", split=1, taps="inside", resident=1
)


def kernels(captured, *changes: dict) -> list[str]:
    """Texts of small tiles with the changes, those that are valid for the task."""
    program = analyse(captured.task)
    texts = []
    for change in changes:
        idea = IDEAS["tile_tensor_cores" if "products" in change else "tile_registers"]
        variant = Variant.of(**{**SMALL, **change})
        if idea.applies(program, H200) and idea.valid(program, variant, H200):
            texts.append(idea.render(program, variant, H200))
    assert texts, "no variant fits"
    return texts


def in_turn(name, cases):
    """The units take turns over the cases: a build costs a second."""
    return knobs(products=3) if sorted(cases).index(name) % 2 else knobs()


REGISTERS = (knobs(), knobs(copies="registers", stages=2))
FLOAT = (knobs(), knobs(copies="registers", stages=2), knobs(products=3, warps=2))
HALF = (knobs(products=1, depth=32), knobs(products=1, depth=32, copies="registers", stages=2))


@few
@given(
    m=st.sampled_from([2, 7, 33, 64]),
    n=st.sampled_from([3, 17, 64, 70]),
    k=st.sampled_from([2, 5, 16, 37, 64]),
    left=st.booleans(),
    right=st.booleans(),
)
def test_products_of_any_shape_and_order(take, agree, m, n, k, left, right):
    captured = take(
        f"x=float32[{(k, m) if left else (m, k)}], w=float32[{(n, k) if right else (k, n)}]"
        .replace("(", "").replace(")", ""),
        f"return {'x.t()' if left else 'x'} @ {'w.t()' if right else 'w'}",
        arguments="x, w",
    )  # fmt: skip
    agree(captured, kernels(captured, *FLOAT), draws=[("normal", 1)])


@few
@given(
    dtype=st.sampled_from(["float16", "bfloat16"]),
    m=st.sampled_from([5, 64]),
    n=st.sampled_from([9, 40, 64]),
    k=st.sampled_from([3, 24, 72]),
    right=st.booleans(),
)
def test_products_of_halves(take, agree, dtype, m, n, k, right):
    shape = f"{n}, {k}" if right else f"{k}, {n}"
    captured = take(
        f"x={dtype}[{m}, {k}], w={dtype}[{shape}]",
        f"return F.gelu(x @ {'w.t()' if right else 'w'})",
        arguments="x, w",
    )
    agree(captured, kernels(captured, *HALF), draws=[("normal", 1)])


PRODUCTS = {
    "linear": (
        "x=float32[3, 5, 20], r=float32[3, 5, 24]",
        "return F.silu(self.l(x)) * r",
        "self.l = nn.Linear(20, 24)",
        "x, r",
    ),
    "no bias, odd": (
        "x=float32[9, 21]",
        "return self.l(x)",
        "self.l = nn.Linear(21, 19, bias=False)",
        "x",
    ),
    "prologue": (
        "x=float32[9, 20], w=float32[20, 24]",
        "return torch.tanh(x * 2) @ w.exp()",
        "pass",
        "x, w",
    ),
    "batched": (
        "x=float32[5, 9, 20], w=float32[5, 20, 6]",
        "return torch.bmm(x, w)",
        "pass",
        "x, w",
    ),
    "broadcast batch": (
        "x=float32[2, 3, 9, 20], w=float32[3, 20, 6]",
        "return x @ w",
        "pass",
        "x, w",
    ),
    "attention": (
        "x=float32[2, 9, 3, 8], w=float32[2, 7, 3, 8]",
        "return torch.einsum('bqhd,bkhd->bhqk', x, w) * 0.3",
        "pass",
        "x, w",
    ),
    "addmm": (
        "c=float32[24], x=float32[9, 20], w=float32[20, 24]",
        "return torch.addmm(c, x, w, beta=0.5, alpha=2)",
        "pass",
        "c, x, w",
    ),
    "baddbmm": (
        "c=float32[3, 9, 24], x=float32[3, 9, 20], w=float32[3, 20, 24]",
        "return torch.baddbmm(c, x, w, alpha=3).relu()",
        "pass",
        "c, x, w",
    ),
    "slices": (
        "x=float32[9, 50], w=float32[30, 24]",
        "return x[:, 3:33] @ w[:, ::2]",
        "pass",
        "x, w",
    ),
    "two outputs": (
        "x=float32[9, 20], w=float32[20, 24], r=float32[9, 24]",
        "y = x @ w\nreturn y + r, y > r",
        "pass",
        "x, w, r",
    ),
    "names of the template": (
        "left=float32[9, 20], right=float32[20, 24], acc=float32[24], m=float32[9, 24]",
        "return left @ right + acc + m",
        "pass",
        "left, right, acc, m",
    ),
}


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_products_as_people_write_them(take, agree, name):
    inputs, forward, init, arguments = PRODUCTS[name]
    captured = take(inputs, forward, init, arguments)
    agree(captured, kernels(captured, in_turn(name, PRODUCTS)), draws=[("normal", 1)])


def test_a_sum_split_among_blocks(take, agree):
    captured = take(
        "x=float32[3, 9, 200], w=float32[3, 200, 24], b=float32[24]",
        "return F.gelu(x @ w + b)",
        arguments="x, w, b",
    )
    split = (knobs(split=4), knobs(split=2, products=3), knobs(split=4, copies="registers"))
    agree(captured, kernels(captured, *split))


def test_double(take, agree):
    captured = take("x=float64[33, 20], w=float64[20, 40]", "return x @ w", arguments="x, w")
    agree(captured, kernels(captured, *REGISTERS), draws=[("normal", 1)])


def test_halves_widened_for_the_plain_units(take, agree):
    """Operands of two dtypes are no work for one instruction of the tensor cores."""
    captured = take(
        "x=float16[33, 20], w=float32[20, 40]", "return x.to(w.dtype) @ w", arguments="x, w"
    )
    agree(captured, kernels(captured, *REGISTERS), draws=[("normal", 1)])


@few
@given(
    size=st.sampled_from([5, 8, 13]),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.sampled_from([1, 2, 3]),
    padding=st.sampled_from([0, 1, 2]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2]),
    channels=st.sampled_from([2, 6]),
)
def test_convolutions_of_any_window(
    take, agree, size, kernel, stride, padding, dilation, groups, channels
):
    assume(kernel > 1 or channels > groups)  # else there is nothing to sum
    captured = take(
        f"x=float32[2, {channels}, {size}, 11]",
        "return F.relu(self.c(x))",
        f"self.c = nn.Conv2d({channels}, 10, {kernel}, {stride}, {padding}, {dilation}, {groups})",
    )
    agree(captured, kernels(captured, knobs(), knobs(products=3)), draws=[("normal", 1)])


CONVOLUTIONS = {
    "1d, padded behind": (
        "x=float32[2, 5, 30]",
        "return self.c(x)",
        "self.c = nn.Conv1d(5, 12, 2, padding='same')",
    ),
    "1d, same": (
        "x=float32[2, 5, 30]",
        "return self.c(x) + 1",
        "self.c = nn.Conv1d(5, 12, 4, padding='same')",
    ),
    "3d": ("x=float32[2, 3, 4, 5, 6]", "return self.c(x)", "self.c = nn.Conv3d(3, 9, 2)"),
    "unbatched": (
        "x=float32[3, 8, 9]",
        "return self.c(x)",
        "self.c = nn.Conv2d(3, 9, 3, padding=1)",
    ),
    "padded prologue": (
        "x=float32[2, 3, 8, 9]",
        "return self.c(x.sigmoid())",
        "self.c = nn.Conv2d(3, 9, 3, padding=1)",
    ),
    "residual": (
        "x=float32[2, 9, 8, 9]",
        "return F.relu(self.c(x) + x)",
        "self.c = nn.Conv2d(9, 9, 3, padding=1)",
    ),
    "batch norm": (
        "x=float32[2, 3, 8, 9]",
        "return F.relu(self.b(self.c(x)))",
        "self.c = nn.Conv2d(3, 9, 3, padding=1)\nself.b = nn.BatchNorm2d(9)",
    ),
    "pointwise": ("x=float32[2, 20, 4, 4]", "return self.c(x)", "self.c = nn.Conv2d(20, 9, 1)"),
}


@pytest.mark.parametrize("name", sorted(CONVOLUTIONS))
def test_convolutions_as_people_write_them(take, agree, name):
    captured = take(*CONVOLUTIONS[name])
    agree(captured, kernels(captured, in_turn(name, CONVOLUTIONS)), draws=[("normal", 1)])


@pytest.mark.parametrize("groups", [1, 2])
def test_taps_outside_channels_inside(take, agree, groups):
    captured = take(
        f"x=float32[2, {16 * groups}, 7, 8]",
        "return self.c(x)",
        f"self.c = nn.Conv2d({16 * groups}, 10, 3, stride=2, padding=(1, 2), groups={groups})",
    )
    outside = [
        knobs(taps="outside"),
        knobs(taps="outside", copies="registers", split=2),
        knobs(taps="outside", products=3),
    ]
    agree(captured, kernels(captured, *outside), draws=[("normal", 1)])


@pytest.mark.parametrize("taps", ["inside", "outside"])
def test_convolutions_of_halves(take, agree, taps):
    captured = take(
        "x=float16[2, 32, 6, 7]",
        "return self.c(x)",
        "self.c = nn.Conv2d(32, 10, 3, padding=1).half()",
    )
    agree(
        captured, kernels(captured, knobs(taps=taps, depth=32, products=1)), draws=[("normal", 1)]
    )


def test_one_tf32_product_has_the_accuracy_of_tf32(take, cpu):
    """2⁻¹¹ per factor: what torch's default flags give convolutions on a GPU."""
    captured = take("x=float32[2, 8, 9, 9]", "return self.c(x)", "self.c = nn.Conv2d(8, 10, 3)")
    captured.task = evolve(captured.task, tf32=("convolution",))  # as captured on a GPU
    source = kernels(captured, knobs(products=1))[0]
    (program,) = cpu.compile([parse(source)], captured.task)
    call = captured.draw(1)
    tensors = captured.tensors(call)
    out = cpu.execute(program, captured.task, tensors, checked=True).outputs["out"]
    exact = captured.copied_module().double()(call.args[0].double()).detach()
    error = float((out - exact).norm() / exact.norm())
    assert 2e-5 < error < 5e-4


@pytest.mark.parametrize("change", [knobs(), knobs(products=3), knobs(products=3, split=2)])
def test_what_is_no_number_comes_through(take, cpu, change):
    """A NaN or an infinity in an operand is in its row or column of the result, as in eager."""
    captured = take("x=float32[9, 64], w=float32[64, 20]", "return x @ w", arguments="x, w")
    tensors = captured.tensors(captured.draw(1))
    tensors["x"][1, 3] = float("nan")
    tensors["x"][2, 5] = float("inf")
    tensors["x"][4, 7] = float("-inf")
    tensors["x"][6] = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    tensors["w"][9, 11] = float("inf")
    expected = tensors["x"] @ tensors["w"]
    (program,) = cpu.compile([parse(kernels(captured, change)[0])], captured.task)
    out = cpu.execute(program, captured.task, tensors, checked=True).outputs["out"]
    assert torch.equal(out.isnan(), expected.isnan())
    infinite = expected.isinf()
    assert torch.equal(out[infinite], expected[infinite])
    finite = expected.isfinite()
    assert torch.allclose(out[finite], expected[finite], atol=1e-5)


def test_the_leading_dimension_is_free(take, cpu):
    """One build serves other sizes of the outermost axis, whichever operand it belongs to."""
    small, large = (
        take(f"x=float32[{rows}, 3, 6, 6]", "return self.c(x)", "self.c = nn.Conv2d(3, 9, 3)")
        for rows in (2, 5)
    )
    assert kernels(small, knobs(), knobs(products=3)) == kernels(large, knobs(), knobs(products=3))
