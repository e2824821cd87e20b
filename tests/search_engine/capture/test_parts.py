"""Modules whose parts no kernel stands in for end in one sentence."""

import pytest

from search_engine.errors import CaptureError

COMMENT = "# kernel-lsp: Net(), x=float32[4, 16]\n"
MODULE = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {init}
    def forward(self, x):
        return torch.relu(x) if not hasattr(self, "l") else torch.relu(self.l(x))
"""


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("init", "sentence"),
    [
        ("self.l = nn.LazyLinear(8)", r"^Net.l is a LazyLinear, .*: write Linear with its sizes"),
        ("self.l = nn.LazyBatchNorm1d()", "write BatchNorm1d with its sizes"),
        (
            "self.l = nn.utils.weight_norm(nn.Linear(16, 8))",
            r"^Net.l is under .*: use torch.nn.utils.parametrizations.weight_norm",
        ),
        (
            "self.l = nn.ReLU(); self.l.register_forward_hook(lambda m, i, o: o * 3)",
            r"^Net.l has forward hooks, which a kernel would leave out",
        ),
        ("self.register_forward_pre_hook(lambda m, i: None)", "^Net has forward hooks"),
        ("self.l = torch.compile(nn.ReLU())", r"^Net.l is compiled by torch.compile already"),
        ("self.l = torch.jit.script(nn.ReLU())", "^Net.l is a TorchScript module"),
    ],
)
def test_parts(take, init, sentence):
    with pytest.raises(CaptureError, match=sentence):
        take(COMMENT + MODULE.format(init=init))


def test_a_compiled_forward(take):
    text = MODULE.format(init="pass").replace(
        "    def forward", "    @torch.compile\n    def forward"
    )
    with pytest.raises(CaptureError, match=r"^Net.forward is compiled by torch.compile already"):
        take(COMMENT + text)


@pytest.mark.parametrize(
    ("init", "forward", "names"),
    [
        (
            "self.parts = nn.ModuleList([nn.Sequential(nn.LayerNorm(16)), nn.Tanh()])",
            "return self.parts[1](self.parts[0](x))",
            {"parts.0.0.weight", "parts.0.0.bias"},
        ),
        (
            "self.parts = nn.ModuleDict({'a': nn.LayerNorm(16)}); self.same = self.parts['a']",
            "return self.same(self.parts['a'](x))",
            {"parts.a.weight", "parts.a.bias"},
        ),
        (
            "self.w = nn.ParameterList([nn.Parameter(torch.randn(16)) for _ in range(2)])",
            "return x * self.w[0] + self.w[1]",
            {"w.0", "w.1"},
        ),
        (
            "self.c = torch.randn(16)\n"
            "        self.register_buffer('b', torch.randn(16), persistent=False)",
            "return x * self.b + self.c",
            {"b", "c"},
        ),
        (
            "self.a = nn.LayerNorm(16); self.b = nn.LayerNorm(16); self.b.weight = self.a.weight",
            "return self.b(self.a(x))",
            {"a.weight", "a.bias", "b.bias"},
        ),
        (
            "self.l = nn.utils.parametrizations.weight_norm(nn.Linear(16, 8))",
            "return self.l(x)",
            {"l.bias"} | {f"l.parametrizations.weight.original{i}" for i in (0, 1)},
        ),
    ],
)
def test_what_modules_hold(take, init, forward, names):
    text = MODULE.format(init=init)
    text = text[: text.index("        return torch.relu")] + f"        {forward}\n"
    task = take(COMMENT + text).task
    held = {t.name for t in task.tensors if t.role in ("parameter", "buffer", "constant")}
    assert held == names
    assert set(task.graph.inputs) == names | {"x"}


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ("[[torch.ones(2), torch.ones(2)]]", ["x.0", "x.1"]),
        ("[{'a': torch.ones(2), 'b': torch.ones(2)}]", ["x.a", "x.b"]),
        ("[P(torch.ones(2), torch.ones(2))]", ["x.0", "x.1"]),
    ],
)
def test_containers_of_inputs(take, inputs, names):
    text = (
        "import collections\nP = collections.namedtuple('P', 'a b')\n"
        "class Model(nn.Module):\n    def forward(self, x):\n"
        "        a, b = x.values() if isinstance(x, dict) else x\n        return a + b * 2\n"
        f"def get_inputs(): return {inputs}\n"
    )
    captured = take(text, "Model")
    assert len(captured.task.graph.nodes) == 2
    assert [t.name for t in captured.task.inputs] == names


def test_an_input_that_no_delivered_file_could_check(take):
    text = (
        "class Batch:\n    x = torch.ones(2)\n"
        "class Model(nn.Module):\n    def forward(self, batch): return batch.x * 2\n"
        "def get_inputs(): return [Batch()]\n"
    )
    with pytest.raises(CaptureError, match=r"^The argument 'batch' of .* is a Batch: give it tens"):
        take(text, "Model")
