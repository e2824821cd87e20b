import importlib
import sys
import uuid

import pytest
import torch

from search_engine.capture.structure import Slot
from search_engine.deliver.observed import observe, observe_call
from search_engine.deliver.reached import reachable_fingerprint
from search_engine.errors import DeliveryError

FILE = """\
import enum
import math
import torch
import torch.nn.functional as F
from torch import nn
import {helpers} as helpers
from {helpers} import scaled

GAIN = 3.0
TABLE = (1, 2, [3, None])
DTYPE = torch.float32
WEIGHT = torch.ones(4) * 2
UNUSED = 1
act = F.gelu
shift = lambda x: x + 1.5


class Kind(enum.Enum):
    A = 1


class Base(nn.Module):
    BIAS = 0.5

    def shared(self, x):
        return x + self.BIAS

    def not_reached(self, x):
        return x * 7


class Block(nn.Module):
    def forward(self, x):
        return F.relu(x) + 11


def outer(factor):
    def inner(x):
        return x * factor
    return inner


doubled = outer(2.0)


class Net(Base):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.kind = Kind.A

    @property
    def width(self):
        return 21

    @staticmethod
    def fixed(x):
        return x - 22

    @torch.no_grad()
    def forward(self, x):
        UNUSED = 5  # a local of that name
        y = self.shared(scaled(x)) * GAIN + math.pi + UNUSED
        y = helpers.deep.deeper(y) + len(TABLE) + WEIGHT.sum()
        y = act(shift(doubled(y))).to(DTYPE) + self.width
        return self.block(self.fixed(y)) + Local().value

    def other(self, x):
        return x * 31


class Local:
    value = 41
"""
HELPERS = """\
import {deep} as deep
LIMIT = 9.0
def scaled(x):
    return x * LIMIT
def no(): pass
"""
DEEP = "def deeper(x):\n    return x - 77\n"


@pytest.fixture
def reach(tmp_path, monkeypatch):
    """Hash of ``Net`` in the three files, each with replacements; fresh names each time."""
    monkeypatch.syspath_prepend(tmp_path)

    def hashed(old="", new="", *, package=False):
        tag = uuid.uuid4().hex[:6]
        names = {"net": f"net_{tag}", "helpers": f"helpers_{tag}", "deep": f"deep_{tag}"}
        if package:
            (tmp_path / f"p_{tag}").mkdir()
            (tmp_path / f"p_{tag}" / "__init__.py").write_text("")
            names = {key: f"p_{tag}.{name}" for key, name in names.items()}
        for key, text in {"net": FILE, "helpers": HELPERS, "deep": DEEP}.items():
            text = (
                text.format(**names)
                if key != "net"
                else text.replace("{helpers}", names["helpers"])
            )
            path = tmp_path / (names[key].replace(".", "/") + ".py")
            path.write_text(text.replace(old, new) if old else text)
        importlib.invalidate_caches()
        module = importlib.import_module(names["net"])
        found = reachable_fingerprint([module.Net, module.Block])
        assert found is not None
        return found

    return hashed


def test_the_same_however_it_is_imported(reach):
    assert reach() == reach() == reach(package=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GAIN = 3.0", "GAIN = 3.5"),
        ("(1, 2, [3, None])", "(1, 2, [3, 0])"),
        ("DTYPE = torch.float32", "DTYPE = torch.float64"),
        ("torch.ones(4) * 2", "torch.ones(4) * 3"),
        ("act = F.gelu", "act = F.silu"),
        ("x + 1.5", "x + 2.5"),
        ("BIAS = 0.5", "BIAS = 0.25"),
        ("x + self.BIAS", "x - self.BIAS"),
        ("F.relu(x) + 11", "F.relu(x) + 12"),
        ("x * factor", "x / factor"),
        ("outer(2.0)", "outer(3.0)"),
        ("return 21", "return 20"),
        ("x - 22", "x - 23"),
        ("@torch.no_grad()\n", "@torch.enable_grad()\n"),
        ("LIMIT = 9.0", "LIMIT = 8.0"),
        ("x - 77", "x - 78"),
        ("value = 41", "value = 42"),
        ("math.pi", "math.e"),
    ],
)
def test_what_is_reached_counts(reach, old, new):
    assert old in FILE + HELPERS + DEEP
    assert reach() != reach(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UNUSED = 1\n", "UNUSED = 2\n"),
        ("x * 7", "x * 8"),
        ("x * 31", "x * 32"),
        ("def no(): pass", "def yes(): return 1"),
        ("GAIN = 3.0", "GAIN = (\n    3.0  # why\n)"),
        ("UNUSED = 5  # a local", "'''Documented.'''; UNUSED = 5  # a local"),
    ],
)  # fmt: skip
def test_what_is_not_reached_does_not(reach, old, new):
    assert old in FILE + HELPERS + DEEP
    assert reach() == reach(old, new)


def test_names_that_cannot_be_told_from_the_text(reach):
    dynamic = "return getattr(self, 'other')(x) + self.fixed"
    assert reach("return self.block(self.fixed", f"{dynamic}(x); return self.block(self.fixed") != (
        reach()
    )


def test_observed(tmp_path, monkeypatch):
    text = """\
import torch
from torch import nn

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.eps, self.count, self.act = 1e-3, 0, torch.relu

    def forward(self, x):
        return self.act(x) * self.eps

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Part(), nn.Linear(4, 4, bias=False)])
        self.sizes = [1, 2]

    def forward(self, x, mask=None, *, mode="fast"):
        for part in self.parts:
            x = part(x) + self.sizes[0]
        return x, x
"""
    name = f"net_{uuid.uuid4().hex[:6]}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(name).Net()

    class Call:
        args = (torch.ones(4),)
        kwargs = {"mode": "slow"}  # noqa: RUF012

    found = observe(module)
    assert found.modules == {
        "": "~.Net",
        "parts": "torch.ModuleList",
        "parts.0": "~.Part",
        "parts.1": "torch.Linear",
    }
    assert found.attributes == {
        "sizes": [1, 2],
        "parts.0.eps": 1e-3,
        "parts.1.in_features": 4,
        "parts.1.out_features": 4,
    }
    assert found.absent == ("parts.1.bias",)
    called = observe_call(module, Call(), Slot("out"))
    assert called.arguments == {"mask": None, "mode": "slow"}
    assert found.functions == ("parts.0.act",)
    Call.kwargs = {"mask": object()}
    with pytest.raises(DeliveryError, match="argument mask is a object"):
        observe_call(module, Call(), Slot("out"))
    (tmp_path / f"{name}.py").unlink()
    import linecache

    linecache.clearcache()
    with pytest.raises(DeliveryError, match=r"The source of code that Net.forward calls cannot"):
        observe(module)
    del sys.modules[name]
