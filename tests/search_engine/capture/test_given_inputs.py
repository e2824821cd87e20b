"""Comments with conversions, containers and several shapes."""

import pytest
import torch

from search_engine import serial
from search_engine.errors import CaptureError
from search_engine.task import Task

NORM = """\
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
    def forward(self, x, scale: float = 1.0):
        return self.norm(x) * scale
"""


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        ("Net(16).half()", "float16"),
        ("Net(16).bfloat16()", "bfloat16"),
        ("Net(16).to(torch.float64)", "float64"),
        ("Net(16).half().double()", "float64"),
        ("Net(n=16)", "float32"),
    ],
)
def test_conversions_behind_the_constructor(take, call, dtype):
    captured = take(f"# kernel-lsp: {call}, x={dtype}[4, 16]\n" + NORM)
    assert {t.dtype for t in captured.task.tensors} == {dtype}
    assert captured.task.construction == call
    assert captured.copied_module().norm.weight.dtype is getattr(torch, dtype)


@pytest.mark.parametrize("call", ["Net(16).cuda()", "Net(16).to('cpu')", "Net(16).half(1)"])
def test_nothing_else_may_stand_behind_it(take, call):
    with pytest.raises(CaptureError, match=r"^Line 4: behind the constructor only \.half\(\)"):
        take(f"# kernel-lsp: {call}, x=float16[4, 16]\n" + NORM)


@pytest.mark.parametrize(
    ("given", "signature", "names"),
    [
        ("xs=(float32[4], int64[4] in 0..3)", "self, xs", ["xs.0", "xs.1"]),
        ("xs=[float32[4], [float32[4]]]", "self, xs", ["xs.0", "xs.1.0"]),
        ('xs={"a": float32[4], "n": int64[4] in 2..2, "s": 0.5}', "self, xs", ["xs.a", "xs.n"]),
        ("y=float32[4], xs=(float32[4], float32[4])", "self, y, *xs", ["y", "xs.0", "xs.1"]),
        ("a=float32[4], b=float32[4]", "self, **xs", ["a", "b"]),
        ("y=float32[4], z=float32[4]", "self, *, y, z=None", ["y", "z"]),
    ],
)
def test_containers_and_star_arguments(take, given, signature, names):
    text = (
        f"# kernel-lsp: {given}\nclass Net(nn.Module):\n"
        f"    def forward({signature}):\n"
        "        from torch.utils._pytree import tree_leaves\n"
        "        found = [v for v in tree_leaves(dict(locals())) if isinstance(v, torch.Tensor)]\n"
        "        return sum(v * 2.0 for v in found)\n"
    )
    captured = take(text)
    assert [t.name for t in captured.task.inputs] == names
    assert captured.task.graph is not None
    for name, tensor in captured.tensors(captured.draw(3, "uniform")).items():
        spec = captured.task.tensor(name)
        assert (tuple(tensor.shape), str(tensor.dtype)) == (spec.shape, f"torch.{spec.dtype}")
        if name == "xs.n":
            assert set(tensor.tolist()) == {2}


def test_a_kernel_is_wanted_for_each_comment(take):
    text = (
        "# kernel-lsp: Net(16), x=float32[4, 16]\n"
        "# kernel-lsp: x=float32[2, 3, 16], scale=0.5\n"
        "# kernel-lsp: Net( 16 ), x=float32[1, 16]\n"
    )
    captured = take(text + NORM)
    first, second = captured.task.further
    assert captured.task.shape_text == "x float32[4, 16]"
    assert first.shape_text == "x float32[2, 3, 16], scale 0.5"
    assert second.outputs[0].shape == (1, 16)
    assert first.graph.nodes[-1].args[1] == 0.5
    assert [other.module is captured.module for other in captured.further] == [True, True]
    assert serial.loads(serial.dumps(captured.task), Task) == captured.task


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (
            "Net(8), x=float32[4, 8]",
            r"^Line 5: `Net\(8\)` is another module than `Net\(16\)` in li",
        ),
        ("x=float32[4, 8]", r"check the shapes that the comment in line 5 gives \(x float32\[4, 8"),
    ],
)
def test_a_comment_that_does_not_fit_is_named(take, second, sentence):
    with pytest.raises(CaptureError, match=sentence):
        take(f"# kernel-lsp: Net(16), x=float32[4, 16]\n# kernel-lsp: {second}\n" + NORM)


def test_inputs_and_parameters_of_two_dtypes_are_named(take):
    text = NORM.replace("LayerNorm(n)", "Linear(n, n)")
    with pytest.raises(CaptureError, match="inputs are float16 and the parameters float32: conv"):
        take("# kernel-lsp: Net(16), x=float16[4, 16]\n" + text)
