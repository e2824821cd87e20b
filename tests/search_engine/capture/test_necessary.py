"""Which products of matrices have to be done: what the limit counts, and what is certain."""

import pytest
import torch

from search_engine.capture.necessary import triangle_share
from search_engine.hardware import H200

N = 512
PRODUCT = 2 * N**3


def work_of(take, forward, init="pass", inputs=f"x=float32[{N}, {N}], w=float32[{N}, {N}]"):
    """Shares of one dense product of N x N that count and that are certain."""
    task = take(
        f"# kernel-lsp: Net(), {inputs}\nclass Net(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n        {init}\n"
        f"    def forward(self, x, w):\n        {forward}\n"
    )
    return task


@pytest.fixture
def shares(take, monkeypatch):
    """(counted, certain) flops of products over those of one dense product of N x N."""
    seen = []
    from search_engine.capture import capture

    real = capture.limit
    monkeypatch.setattr(
        capture, "limit", lambda work, facts: seen.append(work) or real(work, facts)
    )

    def found(forward, init="pass", **options):
        work_of(take, forward, init, **options)
        work = seen[-1]
        counted = sum(work.least_products.values()) / PRODUCT
        return counted, sum(work.certain_products.values()) / PRODUCT

    return found


HALF = (N + 1) / (2 * N)
CASES = {
    # Nothing is known of the operands: all of it, for certain.
    "dense": ("return x @ w", 1, 1),
    "views": ("return (x.t() @ w[:, :]).relu()", 1, 1),
    "in place": ("return torch.relu_(x @ w)", 1, 1),
    "linear": ("return F.gelu(F.linear(x, w, w[0]))", 1, 1),
    "two with an activation": ("return (x @ w).relu() @ w", 2, 2),
    "attention": ("return torch.softmax(x @ w / 8, 1) @ w", 2, 2),
    "low rank, but not after an activation": (
        "return (x[:, :8] @ w[:8]).relu() @ w", 1 + 8 / N, 1 + 8 / N
    ),
    "scaled and added": ("return (x @ w) * 2 + x", 1, 1),
    # Structure of an operand.
    "diagonal left": ("return torch.diag(x[0]) @ w", 1 / N, 0),
    "diagonal right": ("return x @ torch.diag_embed(w[0])", 1 / N, 0),
    "identity": ("return torch.eye(x.shape[0]) @ w", 1 / N, 0),
    "zeros": ("return torch.zeros_like(x) @ w", 0, 0),
    "ones": ("return x @ torch.ones(x.shape)", 0, 0),
    "lower": ("return torch.tril(x) @ w", HALF, 0),
    "lower by lower": ("return torch.tril(x) @ torch.tril(w)", 2 / 3 * HALF**2, 0),
    "masked by a constant": ("return (x * torch.ones_like(x).tril()) @ w", HALF, 0),
    "rank one": ("return x[:, :1].expand(-1, x.shape[1]) @ w", 1 / N, 0),
    "outer": ("return torch.outer(x[0], x[1]) @ w", 2 / N, 0),
    "one hot": (
        "return F.one_hot(torch.arange(x.shape[0]) % 7, x.shape[0]).float() @ w", 1 / N, 0
    ),
    "written over in part": ("y = x.clone(); y[:, 8:] = 0; return y @ w", 1, 0),
    "zeros by values": ("return torch.where(x > 0, x, w) @ w", 1, 0),
    "gathered rows": ("return x[torch.zeros(x.shape[0], dtype=torch.long)] @ w", 1, 0),
    # What becomes of the result.
    "triangle of it": ("return (x @ w).tril()", HALF, 0),
    "a row of it": ("return (x @ w)[3]", 1 / N, 1 / N),
    "its diagonal": ("return torch.diagonal(x @ w) * 2", 1 / N, 1 / N),
    "its trace": ("return torch.trace(x @ w)", 0, 0),
    "its sum": ("return (x @ w + 1).sum(1)", 0, 0),
    "the sum of what is not linear": ("return (x @ w).relu().sum(1)", 1, 1),
    "its largest": ("return (x @ w).amax(1)", 1, 1),
    "not at all": ("y = x @ w; return x + 1", 0, 0),
    "halves": ("a, b = (x @ w).chunk(2, 1); return a.sigmoid() * b", 1, 1),
    "twice the same": ("return (x @ w).relu() + (x @ w).tanh()", 1, 1),
    "two in a row": ("return x @ w @ w", 2, 0),
    "gram": ("return x @ x.t()", 0.5, 0),
    "causal": (
        "s = x @ w + torch.full((x.shape[0],) * 2, -torch.inf).triu(1)\n"
        "        return torch.softmax(s, 1) @ w",
        2 * HALF, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_products_that_have_to_be_done(shares, name):
    forward, counted, certain = CASES[name]
    assert shares(forward) == pytest.approx((counted, certain), rel=1e-6)


@pytest.mark.parametrize(
    ("convolution", "share", "certain"),
    [
        ("nn.Conv1d(512, 512, 1)", 1.0, True),
        ("nn.Conv1d(512, 512, 3)", 1.0, False),  # Winograd
        ("nn.Conv1d(512, 512, 3, padding=1)", 1 - 2 / (3 * 64), False),
        ("nn.Conv1d(512, 512, 3, padding=32, dilation=32)", 1 - 2 * 32 / (3 * 64), False),
        ("nn.ConvTranspose1d(512, 512, 3, padding=1)", 1 - 2 / (3 * 64), False),
    ],
)
def test_taps_in_the_padding_are_no_work(shares, convolution, share, certain):
    counted, sure = shares(
        "return self.c(x) * w",
        f"self.c = {convolution}",
        inputs="x=float32[8, 512, 64], w=float32[1]",
    )
    with torch.no_grad():
        layer = eval(convolution, {"nn": torch.nn})
        length = layer(torch.zeros(1, 512, 64)).shape[-1]
    steps = 64 if "Transpose" in convolution else length
    dense = 2 * 8 * 512 * 512 * steps * layer.kernel_size[0] / PRODUCT
    assert counted == pytest.approx(share * dense)
    assert sure == pytest.approx(dense if certain else 0)


def test_the_limit_of_a_product_with_a_diagonal_is_its_bytes(take):
    """What a kernel that scales rows was once rejected for."""
    inputs = "x=float32[2048], w=float32[2048, 2048]"
    task = work_of(take, "return torch.diag(x) @ w", inputs=inputs).task
    assert task.limit_reason.startswith("DRAM")
    assert task.limit_seconds == pytest.approx(4 * (2048**2 + 2048) / H200.dram_bytes_per_second)
    assert task.certain_seconds == task.limit_seconds
    assert task.flops >= 2 * 2048**3  # as eager does it


def test_what_is_certain_counts_on_the_fastest_unit(take):
    inputs = "x=float32[1024, 1024], w=float32[1024, 1024]"
    task = work_of(take, "return x @ w", inputs=inputs).task
    assert task.certain_seconds == pytest.approx(2 * 1024**3 * 3 / H200.half_flops)
    assert 0 < task.certain_seconds < task.limit_seconds


@pytest.mark.parametrize("name", ["tril", "triu"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 8), (8, 3)])
def test_triangles(name, shape):
    for diagonal in range(-9, 10):
        kept = getattr(torch, name)(torch.ones(shape), diagonal).mean()
        assert triangle_share(name, *shape, diagonal) == pytest.approx(float(kept), abs=1e-6)


@pytest.mark.parametrize(
    ("forward", "elements"),  # of the 256 of x and the 256 of w
    [
        ("return x * 2", 256),
        ("return torch.zeros_like(x) + w", 256),
        ("return torch.tril(x) + w", 4 * 36 + 256),
        ("return torch.where(w > 0, x, x[0, 0, 0, 0])", 256 + 1),
        ("return torch.where(w > 0, w, x)", 256),
        ("return x.masked_fill(torch.ones(8, 8).triu(1).bool(), -torch.inf).softmax(-1)", 4 * 36),
        ("return (x * 2).masked_fill(torch.ones(8, 8).triu(1).bool(), 0.0)", 4 * 36),
        ("return (x + w)[:1]", 64 + 64),
        ("y = torch.empty_like(x); y[1:] = 0; y[:1] = x[:1]; return y", 64),
        ("return x + torch.full((8, 8), -torch.inf).triu(1)", 4 * 36),
        ("return x * torch.ones(8, 8).tril()", 4 * 36),
        ("return F.conv2d(x, w[:1, :1, :1, :1], stride=2)", 64 + 1),
        ("return F.conv2d(x, w[:1, :1, :3, :3], stride=2)", 256 + 9),
        ("return F.max_pool2d(x, 2, 4) + w[0, 0, 0, 0]", 64 + 1),
        ("return F.max_pool2d(x, 2) + w[0, 0, 0, 0]", 256 + 1),
    ],
)
def test_bytes_that_have_to_be_read(take, forward, elements):
    inputs = "x=float32[4, 1, 8, 8], w=float32[4, 1, 8, 8]"
    task = work_of(take, forward, inputs=inputs).task
    assert task.min_bytes - task.outputs[0].nbytes == 4 * elements
