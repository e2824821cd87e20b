"""Modules, inputs and results of many kinds, all the way: see conftest."""

import importlib
import linecache
import sys
import warnings

import pytest
import torch

CELLS = {
    "half parameters": """
# kernel-lsp: Net(16).half(), x=float16[4, 16]
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
    def forward(self, x):
        return torch.relu(self.norm(x))
""",
    "bfloat16 in, float32 parameters, a cast between": """
# kernel-lsp: Net(), x=bfloat16[4, 16]
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(16))
    def forward(self, x):
        return (x.float() * self.w).to(x.dtype)
""",
    "integers, a mask and a tensor without dimensions": """
# kernel-lsp: n=int32[4, 16] in -50..50, mask=bool[4, 16], s=float64[], u=uint8[4, 16] in 0..255
class Net(nn.Module):
    def forward(self, n, mask, s, u):
        return n * 2 - 1, (n > 3) & mask, mask.double() * s, u + 250
""",
    "stars": """
# kernel-lsp: x=float32[4, 16], rest=(float32[4, 16], float32[4, 16]), bias=float32[16], k=2
class Net(nn.Module):
    def forward(self, x, *rest, **more):
        return x + rest[0] * rest[1] + more["bias"] * more["k"]
""",
    "lists and dicts in, a nested tuple with a number, None and a tensor twice out": """
# kernel-lsp: xs=[float32[4, 16], float32[4, 16]], d={"a": float32[16], "s": 2.0}
class Net(nn.Module):
    def forward(self, xs, d):
        a = xs[0] * d["s"] + d["a"]
        return a, (xs[1] - 1, {"again": a, "rows": a.shape[0]}), None
""",
    "a named tuple": """
class Out(NamedTuple):
    high: torch.Tensor
    low: Optional[torch.Tensor] = None
# kernel-lsp: x=float32[4, 16]
class Net(nn.Module):
    def forward(self, x):
        return Out(x * 2)
""",
    "a dataclass": """
# kernel-lsp: x=float32[4, 16]
class Net(nn.Module):
    def forward(self, x):
        return Output(logits=x * 2, hidden=[x + 1], name="net")
@dataclass
class Output:
    logits: torch.Tensor
    hidden: list
    name: str = ""
""",
}


@pytest.mark.parametrize("cell", CELLS)
def test_all_the_way(deliver, cell):
    found = deliver(CELLS[cell])
    found.check()
    found.revert()


KEYWORDS = """
# kernel-lsp: x=float32[4, 16], y=float32[4, 16], scale=2.5, flag=True, n=3
class Net(nn.Module):
    def forward(self, x, *, y, scale: float = 1.0, flag=False, n: int = 1, z=None):
        out = x * scale + y * n
        return out + 1 if flag and z is None else out
"""


def test_keywords_scalars_and_flags(deliver):
    found = deliver(KEYWORDS)
    found.check()
    launches = len(found.gpu.runs)
    net = found.user.Net().eval()
    x = torch.ones(4, 16)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kwargs in (
            {"scale": 2.0, "flag": True, "n": 3},
            {"scale": 2.5, "flag": False, "n": 3},
            {"scale": 2.5, "flag": True, "n": 3.0},
            {"scale": 2.5, "flag": True, "n": 3, "z": x},
            {"scale": 2.5, "flag": True},
        ):
            assert "arguments" in found.file.explain(net, x, y=x, **kwargs)
            wanted = net.forward.__wrapped__(net, x, y=x, **kwargs)
            assert torch.equal(net(x, y=x, **kwargs), wanted)
    assert len(found.gpu.runs) == launches
    found.revert()


SHARED = """
class Scale(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.weight = nn.Parameter(torch.full((16,), start))
    def forward(self, x):
        return x * self.weight
# kernel-lsp: Net(SimpleNamespace(start=0.5, gain=2.0)), x=float32[4, 16]
class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.a = Scale(config.start)
        self.b = self.a
        self.c = Scale(1.0)
        self.c.weight = self.a.weight
        self.parts = nn.ModuleDict({"act": nn.Sequential(nn.GELU())})
    def forward(self, x):
        return self.parts["act"](self.c(self.b(self.a(x)))) * self.config.gain
"""


def test_shared_parts_and_a_configuration_object(deliver):
    found = deliver(SHARED)
    found.check()
    call = found.evaluator._captured.draw(0)

    def changed(change):
        net = found.module(found.evaluator._captured)
        change(net)
        with torch.no_grad():
            return found.file.explain(net, *call.args, **call.kwargs)

    weight = torch.nn.Parameter(torch.ones(16))
    assert changed(lambda net: None) == "kernel"
    assert "(weights)" in changed(lambda net: setattr(net.c, "weight", weight))
    assert "(weights)" in changed(lambda net: setattr(net, "b", found.user.Scale(0.5)))
    assert "(attributes)" in changed(lambda net: setattr(net.config, "gain", 3.0))
    assert "(attributes)" in changed(lambda net: setattr(net, "config", None))


SHAPES = """
# kernel-lsp: Net(), x=float32[4, 16]
# kernel-lsp: x=float32[3, 5, 7], twice=True
# kernel-lsp: x=float32[1, 16]
class Net(nn.Module):
    def forward(self, x, twice: bool = False):
        return torch.relu(x) * (2 if twice else 1) + 1
"""


def test_several_shapes(deliver):
    found = deliver(SHAPES)
    assert len(found.file.VERIFIED.cases) == 3
    found.check()
    assert [shape.text for shape in found.delivery.shapes] == [
        "x float32[4, 16]",
        "x float32[3, 5, 7], twice True",
        "x float32[1, 16]",
    ]
    # One text serves the shapes that it fits; another one lies beside it.
    used = {file.name for file in found.file.VERIFIED.kernels}
    assert used == set(found.gpu.runs)
    assert "Net.cu" in used
    net = found.user.Net().eval()
    with torch.no_grad():
        reasons = [
            found.file.explain(net, *arguments)
            for arguments in (
                (torch.ones(2, 16),),  # fewer rows than the first
                (torch.ones(3, 5, 7),),  # verified with twice=True alone
                (torch.ones(9, 9),),
            )
        ]
    assert "(smaller batch)" in reasons[0]
    assert "(shape)" in reasons[1]
    assert "(shape)" in reasons[2]
    found.revert()


LAYERS = """
from torch import nn
from .consts import GAIN

class Base(nn.Module):
    def gate(self, x):
        return x.sigmoid() * GAIN

class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(nn.Parameter(__import__("torch").empty(n))))
    def forward(self, x):
        return (x * self.weight).relu()
"""
PROJECT = """\
import torch

from ..layers import Base, Block
from {package}.consts import GAIN


# kernel-lsp: Net(16), x=float32[4, 16]
class Net(Base):
    def __init__(self, n):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(n), Block(n)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.gate(x) + GAIN
"""


@pytest.mark.parametrize("init", [True, False], ids=["package", "namespace package"])
def test_a_project_of_several_files(deliver, tmp_path, init):
    package = f"proj_{'a' if init else 'b'}"
    others = {f"src/{package}/layers.py": LAYERS, f"src/{package}/consts.py": "GAIN = 2.0\n"}
    if init:
        others |= {f"src/{package}/__init__.py": "", f"src/{package}/nets/__init__.py": ""}
    text, path = PROJECT.format(package=package), f"src/{package}/nets/net.py"
    found = deliver(text, path=path, others=others, header="")
    assert found.delivery.import_line == "from .net_cuda.Net import Net_cuda"
    found.check()
    # Code that lies in another file of the project counts too.
    constants = tmp_path / f"src/{package}/consts.py"
    constants.write_text("GAIN = 4.0\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    linecache.clearcache()
    again = importlib.import_module(f"{package}.nets.net")
    file = importlib.import_module(f"{package}.nets.net_cuda.Net")
    sys.modules[file.decorate.__module__].gpu = found.gpu
    assert "(source)" in file.explain(again.Net(16).eval(), torch.ones(4, 16))
    found.revert()
