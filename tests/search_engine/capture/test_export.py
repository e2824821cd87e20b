"""What the graph has where forward sets a mode for a part of itself."""

REGION = """
# kernel-lsp: Net(), x=float32[3, 4]
class Net(nn.Module):
    def forward(self, x):
        with torch.autocast({device}, enabled={enabled}):
            y = x * 2
            with torch.autocast("cuda", enabled=False):
                y = y + 1
                y.{inner}
            z = y.sum(-1)
        return y - x, z.exp()
"""


def test_parts_without_autocast_are_read_like_the_rest(take):
    captured = take(REGION.format(device="'cuda'", enabled=False, inner="relu()"))
    graph = captured.task.graph
    assert graph is not None, captured.task.graph_reason
    ops = [node.op.split(".")[1] for node in graph.nodes]
    assert sorted(ops) == ["add", "exp", "mul", "sub", "sum"]
    last = graph.node(dict(graph.outputs)["out.0"])
    assert last.op == "aten.sub.Tensor"
    assert graph.node(last.args[0].name).op == "aten.add.Tensor"
    assert last.args[1].name == "x"


def test_a_decorated_method_in_such_a_part(take):
    text = """
# kernel-lsp: Net(), x=float32[3, 4]
class Net(nn.Module):
    @torch.autocast("cuda", enabled=False)
    def turned(self, x):
        return x.t(), x * self.w

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, x):
        turned, scaled = self.turned(x)
        again, _ = self.turned(scaled)
        return again + turned
"""
    graph = take(text).task.graph
    assert [n.op for n in graph.nodes].count("aten.mul.Tensor") == 1
    assert set(graph.inputs) == {"x", "w"}


def test_in_place_operators_in_such_a_part_are_functional(take):
    graph = take(REGION.format(device="'cuda'", enabled=False, inner="relu_()")).task.graph
    assert graph is not None
    assert [n.op for n in graph.nodes if n.op.endswith("_.default")] == []
    assert "aten.relu.default" in [n.op for n in graph.nodes]


def test_autocast_that_is_on_is_named(take):
    text = REGION.format(device="'cpu', torch.bfloat16", enabled=True, inner="relu()")
    task = take(text).task
    assert task.graph is None
    assert "forward turns autocast on" in task.graph_reason


def test_few_constants_are_numbers_of_the_graph(take):
    text = """
WEIGHTS = torch.tensor([[0.5, 0.25], [2.0, 4.0]])

# kernel-lsp: Net(), x=float32[3, 2]
class Net(nn.Module):
    def forward(self, x):
        return x @ WEIGHTS + torch.tensor([1.0, {count}])
"""
    graph = take(text.format(count="-1.0")).task.graph
    assert graph is not None
    numbers = [n.args[1] for n in graph.nodes if n.op == "aten.full.default"]
    assert numbers == [0.5, 0.25, 2.0, 4.0, 1.0, -1.0]
    assert graph.inputs == ("x",)


def test_many_constants_are_asked_for_as_a_buffer(take):
    text = """
WEIGHTS = torch.ones(64)

# kernel-lsp: Net(), x=float32[3, 64]
class Net(nn.Module):
    def forward(self, x):
        return x * WEIGHTS
"""
    task = take(text).task
    assert task.graph is None
    assert "make it a buffer" in task.graph_reason
