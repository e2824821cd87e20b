"""scaled_dot_product_attention: the plan means what torch computes, on the cpu device too."""

import pytest

from search_engine.hardware import H200
from search_engine.playbook import catalogue
from search_engine.playbook.analyse import analyse
from search_engine.playbook.program import Unsupported

QKV = "q=float32[2, 4, 6, 8], k=float32[2, 4, 5, 8], v=float32[2, 4, 5, 3]"
CALL = "return F.scaled_dot_product_attention(q, k, v{})"


@pytest.mark.parametrize(
    ("options", "inputs", "arguments"),
    [
        ("", "", ""),
        (", scale=0.3", "", ""),
        (", is_causal=True", "", ""),
        (", attn_mask=m", "m=float32[6, 5]", "m"),
        (", attn_mask=m", "m=bool[2, 1, 6, 5]", "m"),
        (", m.masked_fill(m > 0, -math.inf)", "m=float32[2, 1, 1, 5]", "m"),
    ],
)
def test_attention(take, means, options, inputs, arguments):
    given = ", ".join(filter(None, ["q, k, v", arguments]))
    body = "import math\n" + CALL.format(options)
    captured = take(", ".join(filter(None, [QKV, inputs])), body, arguments=given)
    plan = means(captured, reach=2e-6)
    assert [stage.operators.count("matmul") for stage in plan.stages] == [1, 0, 1]


def test_rows_that_a_mask_closes_are_zeros(take, means):
    captured = take(QKV, CALL.format(", attn_mask=(q[..., :5] > 9)"), arguments="q, k, v")
    means(captured, draws=[("default", 1)])


def test_heads_that_share_keys(take, means):
    inputs = "q=float32[2, 6, 4, 8], k=float32[2, 2, 5, 8], v=float32[2, 2, 5, 3]"
    captured = take(inputs, CALL.format(", is_causal=True, enable_gqa=True"), arguments="q, k, v")
    means(captured, reach=2e-6)
    masked = take(
        f"{inputs}, m=float32[4, 5]", CALL.format(", m, enable_gqa=True"), arguments="q, k, v, m"
    )
    with pytest.raises(Unsupported, match="of shared heads with a mask"):
        catalogue.candidates(masked.task, H200)


def test_multihead_attention_without_weights(take, means):
    captured = take(
        "x=float32[2, 6, 16]",
        "return self.mha(x, x, x, need_weights=False)[0]",
        "self.mha = nn.MultiheadAttention(16, 2, batch_first=True)",
    )
    means(captured, reach=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_of_attention(take, agree, dtype):
    inputs = ", ".join(f"{name}={dtype}[2, 2, 16, 16]" for name in "qkv")
    captured = take(inputs, CALL.format(", is_causal=True"), arguments="q, k, v")
    first = catalogue.candidates(captured.task, H200)[0]
    agree(captured, [first.render(next(iter(first.variants())))], draws=[("default", 1)])


def test_an_empty_buffer_that_nothing_reads_is_no_hindrance(take):
    captured = take("x=float32[4, 8]", "return x * 2", 'self.register_buffer("e", torch.empty(0))')
    assert analyse(captured.task).stores


def test_an_empty_input_is_refused(take):
    captured = take(
        "x=float32[4, 8], y=float32[0, 8]", "return torch.cat([x, y]) * 2", "pass", "x, y"
    )
    with pytest.raises(Unsupported, match="no elements"):
        analyse(captured.task)
