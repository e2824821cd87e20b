from __future__ import annotations

import pytest
import torch

from search_engine.graph import Ref
from search_engine.serial import dumps, loads
from search_engine.task import Task

LAYER_NORM = """
class Model(nn.Module):
    \"\"\"KernelBench style.\"\"\"
    def __init__(self, normalized_shape: tuple):
        super(Model, self).__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln(x)

batch_size = 4
features = 8
dim1 = 16

def get_inputs():
    x = torch.rand(batch_size, features, dim1)
    return [x]

def get_init_inputs():
    return [(features, dim1)]
"""


def specs(captured, role):
    return {t.name: (t.dtype, t.shape) for t in captured.task.tensors if t.role == role}


def test_kernelbench_file_runs_unmodified(take):
    task = take(LAYER_NORM, path="40_LayerNorm.py").task
    assert (task.qualname, task.module_name) == ("Model", "40_LayerNorm")
    assert task.inputs_from == "get_inputs"
    assert task.construction == "Model((8, 16))"
    assert [t.name for t in task.tensors] == ["x", "ln.weight", "ln.bias", "out"]
    assert task.tensor("x").stride == (128, 16, 1)
    assert task.graph.inputs == ("ln.weight", "ln.bias", "x")
    (node,) = task.graph.nodes
    assert (node.op, node.shape) == ("aten.layer_norm.default", (4, 8, 16))
    assert node.args[0] == Ref("x")
    assert task.graph.outputs == (("out", node.name),)
    assert task.longest_reduction == 128
    assert task.min_bytes == 4 * (512 + 128 + 128 + 512)
    assert len(task.fingerprint) > 8
    assert loads(dumps(task), Task) == task


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("[3, 4]", "Net(3, 4)"),
        ("[[3], {'b': 4}]", "Net(3, b=4)"),
        ("{'a': 3, 'b': 4}", "Net(a=3, b=4)"),
    ],
)
def test_init_inputs_in_every_form(take, returned, expected):
    task = take(
        "class Net(nn.Module):\n"
        "    def __init__(self, a, b):\n"
        "        super().__init__()\n"
        "        self.w = nn.Parameter(torch.ones(a, b))\n"
        "    def forward(self, x): return x @ self.w\n"
        "def get_inputs(): return [torch.rand(2, 3)]\n"
        f"def get_init_inputs(): return {returned}\n"
    ).task
    assert task.construction == expected
    assert task.tensor("w").shape == (3, 4)
    assert task.flops == 2 * 2 * 3 * 4
    assert task.longest_reduction == 3


def test_comment_gives_everything(take):
    captured = take(
        "WIDTH = 6\n"
        "# kernel-lsp: Net(WIDTH, act=nn.ReLU()), x=float32[4, 6], i=int64[3] in 1..3, scale=0.5\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, d, act):\n"
        "        super().__init__()\n"
        "        self.lin, self.act = nn.Linear(d, d), act\n"
        "    def forward(self, x, i, *, scale=1.0): return self.act(self.lin(x))[i] * scale\n"
    )
    task = captured.task
    assert task.inputs_from == "comment"
    assert task.scalars == {"scale": 0.5}
    assert specs(captured, "input") == {"x": ("float32", (4, 6)), "i": ("int64", (3,))}
    for seed in range(20):
        index = captured.draw(seed, "normal").args[1]
        assert index.min() >= 1
        assert index.max() <= 3
    captured.run(captured.draw(1, "normal"))


def test_every_kind_of_tensor_by_name(take):
    captured = take(
        "class Part(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lin = nn.Linear(4, 4)\n"
        "        self.register_buffer('shift', torch.zeros(4), persistent=False)\n"
        "        self.table = torch.ones(4)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.part = Part()\n"
        "        self.tied = self.part.lin.weight\n"
        "    def forward(self, xs, state):\n"
        "        y = F.linear(xs[0] + xs[1], self.tied) * self.part.table + self.part.shift\n"
        "        return {'y': y, 'top': (y + state['h']).max(1)[0]}\n"
        "def get_inputs():\n"
        "    return [[torch.rand(2, 4), torch.rand(2, 4)], {'h': torch.rand(2, 4)}]\n"
    )
    assert specs(captured, "input") == dict.fromkeys(
        ("xs.0", "xs.1", "state.h"), ("float32", (2, 4))
    )
    assert set(specs(captured, "parameter")) == {"tied", "part.lin.bias"}
    assert set(specs(captured, "buffer")) == {"part.shift"}
    assert set(specs(captured, "constant")) == {"part.table"}
    assert specs(captured, "output") == {
        "out.y": ("float32", (2, 4)),
        "out.top": ("float32", (2,)),
    }
    graph = captured.task.graph
    assert {"tied", "xs.0", "xs.1", "state.h", "part.shift", "part.table"} == set(graph.inputs)
    assert [name for name, _ in graph.outputs] == ["out.y", "out.top"]
    assert "aten.amax.default" in [node.op for node in graph.nodes]
    call = captured.draw(3)
    tensors = captured.tensors(call)
    assert tensors["xs.1"] is call.args[0][1]
    assert set(tensors) == {t.name for t in captured.task.tensors if t.role != "output"}


def test_in_place_on_own_values_is_functionalised(take):
    graph = take(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.drop, self.relu = nn.Dropout(), nn.ReLU(inplace=True)\n"
        "    def forward(self, x):\n"
        "        y = self.relu(self.drop(x * 2))\n"
        "        y += 1\n"
        "        return y\n"
        "def get_inputs(): return [torch.rand(4)]\n"
    ).task.graph
    assert [n.op for n in graph.nodes] == [
        "aten.mul.Tensor",
        "aten.relu.default",
        "aten.add.Tensor",
    ]


def test_data_dependent_control_flow_leaves_a_task_without_graph(take):
    task = take(
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        if x.sum() > 0:\n"
        "            return x * 2\n"
        "        return x * 3\n"
        "def get_inputs(): return [torch.rand(4)]\n"
    ).task
    assert task.graph is None
    assert task.graph_reason == (
        "Control flow or shapes depend on the data at net_under_test.py:6, so there is no graph."
    )


def test_broadcast_inputs_and_rows_that_are_gathered_cost_what_they_move(take):
    task = take(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.emb = nn.Embedding(10_000, 8)\n"
        "    def forward(self, i): return self.emb(i)\n"
        "def get_inputs(): return [torch.randint(0, 10_000, (5,))]\n"
    ).task
    assert task.min_bytes == 5 * 8 + 2 * 5 * 8 * 4


def test_draws_are_fresh_reproducible_and_of_their_kind(take):
    captured = take(LAYER_NORM)

    def x(*args):
        return captured.draw(*args).args[0]

    assert torch.equal(x(1), x(1))
    assert not torch.equal(x(1), x(2))
    assert (x(1) >= 0).all()
    assert (x(1) <= 1).all()
    assert abs(x(1, "mean1000").mean() - 1000) < 1
    assert x(1, "tiny").abs().max() < 1e-4
    assert x(1, "wide").abs().max() / x(1, "wide").abs().min() > 1e5
    assert (x(1, "ties") == 0).any()
    assert x(1, "normal").min() < 0
    assert x(1, "normal", "positive").min() >= 0
    assert 0 <= x(1, "x10", "unit").min() <= x(1, "x10", "unit").max() <= 1


def test_randomise_keeps_what_the_module_needs(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.bn = nn.BatchNorm1d(4)\n"
        "        self.register_buffer('mask', torch.tril(torch.ones(4, 4)))\n"
        "        self.register_buffer('bias', torch.full((4, 4), float('-inf')).triu(1))\n"
        "    def forward(self, x): return (self.bn(x) @ self.mask + self.bias).softmax(-1)\n"
        "def get_inputs(): return [torch.rand(4, 4)]\n"
    )
    before = {k: v.clone() for k, v in captured.module.state_dict().items()}
    captured.randomise(1)
    after = captured.module.state_dict()
    for kept in ("mask", "bias", "bn.num_batches_tracked"):
        assert torch.equal(before[kept], after[kept])
    for changed in ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        assert not torch.equal(before[changed], after[changed])
    assert (after["bn.running_var"] > 0).all()
    captured.restore()
    assert all(torch.equal(before[k], v) for k, v in captured.module.state_dict().items())


def test_parameters_that_forward_depends_on_stay(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('rows', torch.tensor([0., 2.]))\n"
        "    def forward(self, x):\n"
        "        assert (self.rows == self.rows.round()).all()\n"
        "        return x[self.rows.long()] * 2\n"
        "def get_inputs(): return [torch.rand(4, 4)]\n"
    )
    assert captured.keep_state
    assert captured.task.notes == (
        "parameters and buffers stay as they are: forward fails on others",
    )


def test_integers_that_must_be_the_users_own_stay(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def forward(self, x, offsets):\n"
        "        if (offsets.diff() < 0).any(): raise ValueError('offsets must rise')\n"
        "        return x[offsets] * 2\n"
        "def get_inputs(): return [torch.rand(90), torch.arange(0, 80, 10)]\n"
    )
    assert captured.own_integers
    assert torch.equal(captured.draw(5, "normal").args[1], torch.arange(0, 80, 10))


def test_expanded_inputs_keep_their_strides(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x + 1\n"
        "def get_inputs(): return [torch.rand(1, 8).expand(4, 8)]\n"
    )
    assert captured.task.tensor("x").stride == (0, 1)
    x = captured.draw(1, "normal").args[0]
    assert x.stride() == (0, 1)
    assert torch.equal(x[0], x[3])


def test_smaller_leading_dimension(take):
    captured = take(LAYER_NORM)
    small = captured.at_leading(2)
    assert small.module is captured.module
    assert small.task.tensor("x").shape == (2, 8, 16)
    assert small.task.tensor("out").shape == (2, 8, 16)
    assert small.run(small.draw(1))["out"].shape == (2, 8, 16)
    assert torch.equal(small.draw(7).args[0], captured.draw(7).args[0][:2])
    assert captured.at_leading(4) is None
    assert captured.at_leading(2) is small


def test_smaller_leading_dimension_of_a_product_is_the_left_sides(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def forward(self, a, b): return a @ b\n"
        "def get_inputs(): return [torch.rand(8, 8), torch.rand(8, 8)]\n"
    )
    small = captured.at_leading(2)
    assert [t.shape for t in small.task.inputs] == [(2, 8), (8, 8)]


def test_no_smaller_leading_dimension_where_the_output_keeps_its_shape(take):
    captured = take(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x.sum(0)\n"
        "def get_inputs(): return [torch.rand(8, 4)]\n"
    )
    assert captured.at_leading(2) is None


def test_copy_elsewhere_has_its_own_parameters(take):
    captured = take(LAYER_NORM)
    other = captured.to("cpu")
    other.randomise(1)
    assert torch.equal(captured.module.ln.weight, torch.ones(8, 16))
    assert not torch.equal(other.module.ln.weight, torch.ones(8, 16))


def test_train_mode(take):
    text = (
        "class Net(nn.Module):\n"
        "    def forward(self, x): return x * 2 if self.training else x * 3\n"
        "def get_inputs(): return [torch.ones(4)]\n"
    )
    assert take(text, mode="train").task.graph.nodes[0].args[1] == 2
    assert take(text).task.graph.nodes[0].args[1] == 3


COSTS = {
    "batch norm in eval sums nothing": ("nn.BatchNorm2d(8)", "torch.rand(4, 8, 6, 6)", 4 * 1152, 1),
    "convolution": ("nn.Conv2d(8, 2, 3, bias=False)", "torch.rand(1, 8, 5, 5)", 2 * 72 * 18, 72),
    "transposed": ("nn.ConvTranspose2d(2, 8, 3, bias=False)", "torch.rand(1, 2, 4, 4)", 4608, 18),
    "softmax": ("nn.Softmax(-1)", "torch.rand(4, 8)", 5 * 32, 8),
    "sum of all": ("nn.Flatten(0).forward", "torch.rand(4, 8)", 32, 32),
    "long short-term memory": ("nn.LSTM(4, 3)", "torch.rand(5, 2, 4)", 2 * 10 * 12 * 7, 4),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs(take, name):
    layer, value, flops, reduction = COSTS[name]
    call = {"sum of all": "self.layer(x).sum()", "long short-term memory": "self.layer(x)[0]"}
    task = take(
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.layer = {layer}\n"
        f"    def forward(self, x): return {call.get(name, 'self.layer(x)')}\n"
        f"def get_inputs(): return [{value}]\n"
    ).task
    assert task.longest_reduction == reduction
    assert task.flops == flops


def test_attention_is_counted(take):
    task = take(
        "class Net(nn.Module):\n"
        "    def forward(self, q, k, v): return F.scaled_dot_product_attention(q, k, v)\n"
        "def get_inputs(): return [torch.rand(2, 4, 32, 16) for _ in range(3)]\n"
    ).task
    assert task.flops >= 2 * 2 * 2 * 4 * 32 * 32 * 16
    assert task.longest_reduction == 32
