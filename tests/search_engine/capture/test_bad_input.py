"""What users get wrong, and the one sentence that each ends in."""

from __future__ import annotations

import pytest

from search_engine.errors import CaptureError

FORWARD = "class Net(nn.Module):\n    def forward(self, x): "


def inputs(values="torch.rand(4, 4)"):
    return f"def get_inputs(): return [{values}]\n"


CASES = {
    "syntax error": (
        "def broken(:\n    pass\n",
        "net_under_test.py has a syntax error at net_under_test.py:4",
    ),
    "import fails": (
        "x = 1\nimport a_package_nobody_has\n",
        "install 'a_package_nobody_has' into the Python at",
    ),
    "import raises": ("x = 1\n\n1 / 0\n", "failed at net_under_test.py:6 (ZeroDivisionError"),
    "import ends the program": ("import sys\nsys.exit(3)\n", "sys.exit at net_under_test.py:5"),
    "no module": ("x = 1\n", "defines no nn.Module class"),
    "no inputs": (f"{FORWARD}return x * 2\n", "Nothing says what Net is run on"),
    "several modules": (
        "class A(nn.Module): pass\nclass B(nn.Module): pass\n" + inputs(),
        "several modules (A, B)",
    ),
    "no forward": ("class Net(nn.Module): pass\n" + inputs(), "Net has no forward"),
    "init needs arguments": (
        "class Net(nn.Module):\n    def __init__(self, hidden): super().__init__()\n"
        "    def forward(self, x): return x * 2\n" + inputs(),
        "missing a required argument: 'hidden'",
    ),
    "init raises": (
        "class Net(nn.Module):\n    def __init__(self, d):\n        super().__init__()\n"
        "        nn.Linear(d, d, d, d, d, d, d)\n"
        "    def forward(self, x): return x * 2\n"
        + inputs()
        + "def get_init_inputs(): return [3]\n",
        "Net.__init__ failed at net_under_test.py:7 (TypeError",
    ),
    "wrong shapes": (
        f"{FORWARD}return x @ torch.ones(3, 3)\n" + inputs(),
        "Net.forward failed at net_under_test.py:5 (RuntimeError: mat1 and mat2 shapes cannot be "
        "multiplied (4x4 and 3x3)): check the shapes that get_inputs() gives (x float32[4, 4]).",
    ),
    "too many inputs": (
        f"{FORWARD}return x * 2\n" + inputs("torch.rand(4), torch.rand(4)"),
        "does not take the inputs given (too many positional arguments)",
    ),
    "inputs raise": (
        f"{FORWARD}return x * 2\n\ndef get_inputs():\n    return [torch.rand(-1)]\n",
        "get_inputs() failed at net_under_test.py:8",
    ),
    "inputs are no list": (
        f"{FORWARD}return x * 2\ndef get_inputs(): return 3\n",
        "get_inputs() returns int",
    ),
    "random operator": (
        f"{FORWARD}return F.dropout(x, 0.5, True)\n" + inputs(),
        "draws random numbers (aten.",
    ),
    "random in Python": (
        f"{FORWARD}\n        import random\n        return x * random.random()\n" + inputs(),
        "draws random numbers (a generator of Python or numpy)",
    ),
    "mutated input": (
        f"{FORWARD}return x.mul_(2) + 1\n" + inputs(),
        "changes its input 'x' in place (aten.mul_.Tensor)",
    ),
    "mutated through a view": (
        f"{FORWARD}\n        x[0] = 1\n        return x + 1\n" + inputs(),
        "changes its input 'x' in place",
    ),
    "mutated buffer": (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('seen', torch.zeros(()))\n"
        "    def forward(self, x):\n        self.seen += 1\n        return x * 2\n" + inputs(),
        "changes its tensor 'seen' in place (aten.add_.Tensor)",
    ),
    "state between calls": (
        f"{FORWARD}\n        self.last = x * 2\n        return self.last + 1\n" + inputs(),
        "sets self.last",
    ),
    "view of an input": (
        f"{FORWARD}return x.view(-1)\n" + inputs(),
        "forward returns 'x' through aten.view.default as out",
    ),
    "input itself": (f"{FORWARD}return x\n" + inputs(), "forward returns 'x' unchanged as out"),
    "shape depends on data": (
        f"{FORWARD}return x[x > 0.5] * 2\n" + inputs(),
        "The shape of the output depends on the data (aten.index.Tensor)",
    ),
    "no tensor comes out": (f"{FORWARD}return 3\n" + inputs(), "forward returns no tensor (int)"),
    "an item is an object": (
        f"{FORWARD}return x * 2, object()\n" + inputs(),
        "returns object at out.1",
    ),
    "a number from a tensor": (
        f"{FORWARD}return x * 2, float(x.sum())\n" + inputs(),
        "(.item()): return the tensor",
    ),
    "a number that differs": (
        "import itertools\nN = itertools.count()\n"
        + f"{FORWARD}return x * 2, next(N)\n"
        + inputs(),
        "returns other Python values",
    ),
    "complex": (f"{FORWARD}return torch.fft.fft(x)\n" + inputs(), "'out' is complex64"),
    "one name twice": (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.x = nn.Parameter(torch.ones(4))\n"
        "    def forward(self, x): return x * self.x\n" + inputs(),
        "Two tensors are named 'x' (input and parameter)",
    ),
    "wrong constructor in the comment": (
        "# kernel-lsp: Other(3), x=float32[4]\n" + FORWARD + "return x * 2\n",
        "Line 4: the call is of Other, the class below is Net",
    ),
    "unknown name in the comment": (
        "# kernel-lsp: Net(WIDTH), x=float32[4]\n" + FORWARD + "return x * 2\n",
        "Line 4: evaluating `Net(WIDTH)` failed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_sentence(take, case):
    text, expected = CASES[case]
    with pytest.raises(CaptureError) as caught:
        take(text)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.endswith(".")


def test_batch_norm_in_training_changes_its_statistics(take):
    text = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.bn = nn.BatchNorm1d(4, track_running_stats=True)\n"
        "        del self.bn.num_batches_tracked\n        self.bn.num_batches_tracked = None\n"
        "    def forward(self, x): return self.bn(x)\n" + inputs()
    )
    take(text)
    with pytest.raises(CaptureError, match=r"bn\.running_mean.*native_batch_norm"):
        take(text, mode="train")


def test_class_that_is_not_there(take):
    with pytest.raises(CaptureError, match="defines no class Missing; its modules are: Net"):
        take(FORWARD + "return x * 2\n", "Missing")


def test_class_inside_a_function(take):
    with pytest.raises(CaptureError, match="made inside a function"):
        take("def f():\n    class Net(nn.Module): pass\n", "f.<locals>.Net")


def test_the_default_class_is_model_else_the_only_root(take):
    text = "class Block(nn.Module):\n    def forward(self, x): return x * 2\n"
    text += "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += "        self.block = Block()\n    def forward(self, x): return self.block(x)\n"
    assert take(text + inputs()).task.qualname == "Net"
    model = text + "class Model(Net): pass\nclass Further(nn.Module): pass\n" + inputs()
    assert take(model).task.qualname == "Model"
    nested = "class Outer:\n    class Net(nn.Module):\n        def forward(self, x): return x * 2\n"
    assert take(nested + inputs(), "Outer.Net").task.qualname == "Outer.Net"
