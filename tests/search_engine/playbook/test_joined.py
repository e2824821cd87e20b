"""Values pieced together by place, fused into one pass."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.ideas.fuse_chain import FuseChain
from search_engine.playbook.program import Unsupported

IDEA = FuseChain()

JOINED = {
    "cat": "torch.cat([x, r[:, :2] * 2, x.exp()], dim=1) + 1",
    "shifted": "torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1) - r",
    "stack": "torch.stack([x, F.relu(r), x * r], dim=-1)",
    "pad": "F.pad(x.exp(), (1, 2, 0, 3), value=0.5) * 2",
    "cropped": "F.pad(x, (-1, 2))",
    "diag": "torch.diag(x[0, :], 2) + torch.diag(r[1, :], -2) * 3",
    "diagonal of a matrix": "torch.diag(x[:, :4] * r[:, 1:], 1)",
    "diag_embed": "torch.diag_embed(x * 2)",
}


@pytest.mark.parametrize("name", JOINED)
def test_pieces(take, agree, name):
    captured = take("x=float32[4, 5], r=float32[4, 5]", f"return {JOINED[name]}", arguments="x, r")
    program = analyse(captured.task)
    assert IDEA.applies(program, H200)
    variant = IDEA.variants(program, H200)[0]
    agree(captured, [IDEA.render(program, variant, H200)], draws=[("normal", 1)])


@pytest.mark.parametrize("product", ["torch.diag(r[:, 0]) @ x", "x @ torch.diag(r[2, :])"])
def test_a_product_with_a_diagonal_scales_rows_and_spreads_nan(take, means, product):
    captured = take("x=float32[4, 5], r=float32[4, 5]", f"return {product}", arguments="x, r")
    plan = means(captured, draws=[("normal", 1), ("normal", 2)], special=True)
    assert len(plan.stages) == 1
    assert plan.stages[0].program.column_count == (4 if "@ x" in product else 5)


@pytest.mark.parametrize(
    ("forward", "named"),
    [
        ("return torch.cat([x, r.double()], 1)", "aten.cat"),
        ("return torch.cat([x.topk(2).values, r], 1)", "aten.topk"),
    ],
)
def test_what_is_not_covered_is_named(take, forward, named):
    captured = take("x=float32[4, 5], r=float32[4, 5]", forward, arguments="x, r")
    with pytest.raises(Unsupported, match=named):
        analyse(captured.task)
