"""What the analyser makes of graphs: axes, statistics, and sentences where it gives up."""

import pytest

from search_engine.playbook.analyse import analyse
from search_engine.playbook.program import Unsupported


def sizes(axes):
    return [axis.size for axis in axes]


def test_layer_norm_over_trailing_dims_is_rows_by_columns(take):
    captured = take(
        "x=float32[6, 4, 8, 10]", "return self.ln(x)", "self.ln = nn.LayerNorm([4, 8, 10])"
    )
    program = analyse(captured.task)
    assert sizes(program.rows) == [6]
    assert sizes(program.columns) == [320]
    assert [s.kind for s in program.statistics] == ["moments"]


def test_a_contiguous_chain_has_one_axis(take):
    program = analyse(take("x=float32[3, 5, 7]", "return F.gelu(x) * 2 + x").task)
    assert program.is_pointwise
    assert sizes(program.axes) == [105]


def test_broadcast_parameters_keep_the_axes_apart(take):
    captured = take(
        "x=float32[3, 5, 7]", "return x + self.b", "self.b = nn.Parameter(torch.ones(5, 1))"
    )
    assert sizes(analyse(captured.task).axes) == [3, 5, 7]


@pytest.mark.parametrize(
    ("hand", "kinds"),
    [
        (
            "m = x.mean(-1, keepdim=True)\n"
            "v = (x - m).pow(2).mean(-1, keepdim=True)\n"
            "return (x - m) / torch.sqrt(v + 1e-5)",
            ["moments"],
        ),
        (
            "v, m = torch.var_mean(x, -1, keepdim=True)\nreturn (x - m) * torch.rsqrt(v + 1e-5)",
            ["moments"],
        ),
        (
            "m = x.mean(-1, keepdim=True)\nv = x.var(-1, keepdim=True, unbiased=False)\n"
            "return (x - m) * torch.rsqrt(v + 1e-5)",
            ["moments"],
        ),
        (
            "e = torch.exp(x - x.amax(-1, keepdim=True))\nreturn e / e.sum(-1, keepdim=True)",
            ["softmax"],
        ),
        ("return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)", ["sum"]),
        ("return F.normalize(x, dim=-1)", ["sum"]),
    ],
    ids=["layer_norm", "var_mean", "var", "softmax", "rms_norm", "normalize"],
)
def test_hand_written_forms_are_recognised(take, hand, kinds):
    captured = take("x=float32[6, 40]", hand)
    assert [s.kind for s in analyse(captured.task).statistics] == kinds


def test_a_mean_that_is_an_output_stays_a_plain_sum(take):
    """Moments would make infinity minus infinity of it where a value is infinite."""
    program = analyse(
        take(
            "x=float32[6, 40]",
            "m = x.mean(-1, keepdim=True)\nreturn (x - m) / x.std(-1, keepdim=True), m",
        ).task
    )
    assert sorted(s.kind for s in program.statistics) == ["moments", "sum"]


def test_softmax_over_a_middle_dimension_has_strided_columns(take):
    program = analyse(take("x=float32[3, 8, 5, 5]", "return x.softmax(1)").task)
    assert sizes(program.rows) == [3, 25]
    assert sizes(program.columns) == [8]
    assert not program.inner_contiguous


def test_views_that_move_nothing_cost_nothing(take):
    forward = "y = x.view(4, 2, 15).transpose(0, 1) * 2\nreturn y.transpose(0, 1).relu()"
    program = analyse(take("x=float32[8, 15]", forward).task)
    assert sizes(program.axes) == [120]


def test_slices_become_offsets(take):
    (load,) = analyse(take("x=float32[4, 12]", "return x[:, 4:8].relu()").task).loads
    assert load.offset == 4


def test_group_norm_by_hand_splits_an_axis(take):
    forward = (
        "g = x.view(3, 2, 4, 5)\nm = g.mean((2, 3), keepdim=True)\n"
        "return (g - m).view(3, 8, 5) * self.w"
    )
    init = "self.w = nn.Parameter(torch.ones(8, 1))"
    program = analyse(take("x=float32[3, 8, 5]", forward, init).task)
    assert program.row_count == 6
    assert program.column_count == 20


@pytest.mark.parametrize(
    ("inputs", "forward", "names"),
    [
        ("x=float32[4, 4]", "return torch.sort(x)[0] * 2", "sort"),
        ("x=float32[4, 4]", "return torch.linalg.inv(x) * 2", "aten.linalg_inv"),
        (
            "x=float32[4, 6]",
            "return x.softmax(0) + x.softmax(1)",
            "two reductions over different dimensions",
        ),
        ("x=float32[0, 6]", "return x * 2", "no elements"),
    ],
)
def test_what_is_not_covered_is_named(take, inputs, forward, names):
    with pytest.raises(Unsupported, match=names):
        analyse(take(inputs, forward).task)
