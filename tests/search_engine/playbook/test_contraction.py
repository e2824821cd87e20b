"""Which axes are batch, m, n and k, and what is no contraction."""

import pytest
from attrs import evolve

from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.contraction import match
from search_engine.playbook.ideas import ALL
from search_engine.playbook.program import Unsupported
from search_engine.playbook.tiles import plans
from search_engine.playbook.tiles.idea import KNOBS


def sizes(axes):
    return [axis.size for axis in axes]


def matched(take, *args):
    return match(analyse(take(*args).task))


@pytest.mark.parametrize(
    ("inputs", "forward", "batch", "m", "n", "k"),
    [
        ("x=float32[6, 10], w=float32[10, 14]", "x @ w", [], [6], [14], [10]),
        ("x=float32[10, 6], w=float32[14, 10]", "x.t() @ w.t()", [], [6], [14], [10]),
        ("x=float32[3, 6, 10], w=float32[3, 10, 14]", "x @ w", [3], [6], [14], [10]),
        ("x=float32[3, 6, 10], w=float32[10, 14]", "x @ w", [], [18], [14], [10]),
        ("x=float32[3, 6, 10], w=float32[3, 1, 10, 14]", "x @ w",
         [], [18], [3, 14], [10]),  # every x by every w
        ("x=float32[3, 4, 6, 10], w=float32[4, 10, 14]", "x @ w", [4], [3, 6], [14], [10]),
        ("x=float32[6, 10], w=float32[10]", "x @ w", [], [], [6], [10]),
        ("x=float32[2, 6, 4, 5], w=float32[2, 7, 4, 5]",
         "torch.einsum('bqhd,bkhd->bhqk', x, w)", [2, 4], [6], [7], [5]),
        ("x=float32[2, 3, 4], w=float32[3, 4, 5]", "torch.tensordot(x, w, 2)", [], [2], [5], [12]),
        ("x=float32[6, 10], w=float32[14, 10]", "torch.inner(x, w)", [], [6], [14], [10]),
        # The output's contiguous axis is the left operand's own: then that is on the right.
        ("x=float32[6, 10], w=float32[10, 14]", "(x @ w).t().contiguous()", [], [14], [6], [10]),
        ("x=float32[2, 6, 9], w=float32[8, 6, 3]", "F.conv1d(x, w)", [], [8], [2, 7], [6, 3]),
        ("x=float32[2, 6, 9], w=float32[8, 3, 3]", "F.conv1d(x, w, groups=2)",
         [2], [4], [2, 7], [3, 3]),
        ("x=float32[2, 6, 9], w=float32[8, 6, 1]", "F.conv1d(x, w)", [], [8], [2, 9], [6]),
    ],
)  # fmt: skip
def test_roles(take, inputs, forward, batch, m, n, k):
    found = matched(take, inputs, f"return {forward}", "pass", "x, w")
    assert found is not None
    assert (sizes(found.batch), sizes(found.m), sizes(found.n)) == (batch, m, n)
    assert sizes(found.columns) == k


def test_an_operand_sees_as_few_axes_as_its_own_accesses_allow(take):
    found = matched(
        take, "x=float32[2, 6, 9, 9], w=float32[8, 6, 3, 3]",
        "return F.conv2d(x, w, padding=1)", "pass", "x, w",
    )  # fmt: skip
    assert sizes(found.left.columns) == [54]
    assert sizes(found.right.columns) == [6, 3, 3]
    assert found.convolution
    assert found.runtime == "right"


def test_sizes_that_count(take):
    found = matched(take, "x=float32[6, 10], w=float32[10, 14]", "return x @ w", "pass", "x, w")
    assert found.flops == 2 * 6 * 10 * 14
    assert found.bytes_once == 4 * (60 + 140 + 84)
    assert found.runtime == "left"
    window = matched(
        take, "x=float32[1, 1, 100], w=float32[4, 1, 9]", "return F.conv1d(x, w)", "pass", "x, w"
    )
    assert window.bytes_once == 4 * (100 + 36 + 4 * 92)  # overlapping windows once


@pytest.mark.parametrize(
    "forward",
    [
        "return (x * r).sum(-1)",  # one row axis: nothing is shared
        "return x.softmax(-1)",
        "return x.sum(-1)",
        "return (x * r).sum(-1, keepdim=True) * x",  # the epilogue reads along k
        "return x.amax(-1)",
    ],
)
def test_what_is_no_product_of_matrices(take, forward):
    program = analyse(take("x=float32[6, 10], r=float32[6, 10]", forward, "pass", "x, r").task)
    found = match(program)
    assert found is None or not (found.m and found.n)


@pytest.mark.parametrize(
    "forward",
    [
        "return F.conv_transpose1d(x, torch.ones(6, 4, 3) * x.mean())",
        "return torch.einsum('bij,bij,bij->b', x, x, x)",
        "return torch.einsum('bii->b', x[:, :6, :6])",
    ],
)
def test_what_is_left_out_says_so(take, forward):
    with pytest.raises(Unsupported, match="No playbook idea covers"):
        analyse(take("x=float32[2, 6, 9]", forward).task)


def test_beta_zero_never_reads_the_input(take):
    captured = take(
        "c=float32[6, 14], x=float32[6, 10], w=float32[10, 14]",
        "return torch.addmm(c, x, w, beta=0)", "pass", "c, x, w",
    )  # fmt: skip
    assert {load.tensor for load in analyse(captured.task).loads} == {"x", "w"}


def test_plans_within_the_device(take):
    """Every plan that is offered is valid, and none asks for more than there is."""
    for inputs, forward in (
        ("x=float32[4096, 4096], w=float32[4096, 4096]", "return x @ w"),
        ("x=float16[33, 4096], w=float16[4096, 70]", "return x @ w"),
        ("x=float64[33, 409], w=float64[409, 70]", "return x @ w"),
        ("x=float32[16, 64, 30, 30], w=float32[64, 64, 3, 3]", "return F.conv2d(x, w)"),
    ):
        c = matched(take, inputs, forward, "pass", "x, w")
        for unit in ("registers", "tensor_cores"):
            for variant in plans.offered(c, unit, H200):
                assert plans.valid(c, variant, unit, H200)
                made = plans.kernel(c, variant, unit)
                assert made.fits
                assert made.shared <= H200.shared_per_block
                assert {name for name, _ in variant.knobs} <= {*KNOBS, "products"}


def test_long_sums_are_split_where_one_accumulator_would_lose_digits(take):
    c = matched(take, "x=float32[64, 16384], w=float32[16384, 64]", "return x @ w", "pass", "x, w")
    offered = plans.offered(c, "registers", H200)
    assert offered
    assert all(variant.number("split") >= 4 for variant in offered)


def products_offered(task):
    """Numbers of TF32 products that the variants of the task's tiles have, and what is valid."""
    program = analyse(task)
    idea = next(idea for idea in ALL if idea.key == "tile_tensor_cores")
    variants = idea.variants(program, H200)
    valid = {n for n in (1, 3) if idea.valid(program, variants[0].changed("products", n), H200)}
    return {variant.number("products") for variant in variants}, valid


@pytest.mark.parametrize(
    ("inputs", "forward", "kind"),
    [
        ("x=float32[16, 64, 34, 34], w=float32[64, 64, 3, 3]", "F.conv2d(x, w)", "convolution"),
        ("x=float32[512, 512], w=float32[512, 512]", "x @ w", "matmul"),
    ],
)
def test_one_tf32_product_only_where_eager_takes_one(take, inputs, forward, kind):
    task = take(inputs, f"return {forward}", "pass", "x, w").task
    assert task.tf32 == ()  # captured on the CPU: eager's products are fp32's, whatever the flags
    assert products_offered(task) == ({3}, {3})
    other = "matmul" if kind == "convolution" else "convolution"
    assert products_offered(evolve(task, tf32=(other,))) == ({3}, {3})
    assert products_offered(evolve(task, tf32=(kind,))) == ({1, 3}, {1, 3})
