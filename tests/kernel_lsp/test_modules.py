"""Finding modules in whole and in broken buffers."""

from __future__ import annotations

import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_lsp.chunks import lines_of, split
from kernel_lsp.modules import ModuleFinder, choose_class
from search_engine.errors import CaptureError
from search_engine.source import fingerprint

IMPORTS = "import torch\nimport torch.nn as nn\nfrom torch.nn import functional as F\n\n\n"
CLASS = '''class Net{n}(nn.Module):
    """Block {n}."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) * {n}.5


'''


def large(count: int = 40) -> str:
    return IMPORTS + "".join(CLASS.format(n=n) for n in range(count))


def names(text: str) -> list[str]:
    return [found.qualname for found in ModuleFinder().find(text).classes]


def one(source: str) -> list[str]:
    return names(textwrap.dedent(source))


FORWARD = "    def forward(self, x):\n        return x\n"


@pytest.mark.parametrize(
    ("imports", "base"),
    [
        ("import torch", "torch.nn.Module"),
        ("import torch as t", "t.nn.Module"),
        ("import torch.nn as nn", "nn.Module"),
        ("from torch import nn", "nn.Module"),
        ("from torch import nn as layers", "layers.Module"),
        ("from torch.nn import Module", "Module"),
        ("from torch.nn import Module as M", "M"),
        ("from torch.nn import *", "Module"),
        ("from torch import nn\nBase = nn.Module", "Base"),
        ("from torch import nn\nclass Base(nn.Module): pass", "Base"),
        ("from torch import nn\nclass Base(nn.Module): pass\nAlias = Base", "Alias"),
        ("try:\n    from torch import nn\nexcept ImportError:\n    nn = None", "nn.Module"),
        ("import lightning as L", "L.LightningModule"),
        ("from torch import nn\nfrom typing import Generic", "nn.Module, Generic[int]"),
    ],
)
def test_bases_are_resolved(imports: str, base: str) -> None:
    assert names(f"{imports}\n\nclass Net({base}):\n{FORWARD}") == ["Net"]


@pytest.mark.parametrize(
    "source",
    [
        f"class Net:\n{FORWARD}",
        f"from keras import Module\nclass Net(Module):\n{FORWARD}",
        "import torch.nn as nn\nclass Net(nn.Module):\n    pass\n",
        f"import torch.nn as nn\nclass Net(nn.Parameter):\n{FORWARD}",
        f"class Net(Net):\n{FORWARD}",
        f"class A(B):\n{FORWARD}class B(A):\n{FORWARD}",
        f"import torch.nn as nn\ndef make():\n    class Net(nn.Module):\n    {FORWARD}",
        '"""\nclass Net(nn.Module):\n    def forward(self, x): ...\n"""\n',
    ],
)
def test_what_is_no_module(source: str) -> None:
    assert names(source) == []


def test_an_inherited_forward_counts() -> None:
    assert one(
        """
        from torch import nn
        class Base(nn.Module):
            def forward(self, x): return x
        class Child(Base): pass
        class Stack(nn.Sequential): pass
        class Abstract(nn.Module): pass
        """
    ) == ["Base", "Child", "Stack"]


def test_nested_and_conditional_classes() -> None:
    text = textwrap.dedent(
        """
        from torch import nn
        if True:
            class A(nn.Module):
                class Inner(nn.Module):
                    def forward(self, x): return x
                def forward(self, x): return x
        else:
            class B(nn.Module):
                def forward(self, x): return x
        """
    )
    found = ModuleFinder().find(text)
    assert [m.qualname for m in found.classes] == ["A", "A.Inner", "B"]
    assert found.at(5).qualname == "A.Inner"
    assert found.at(6).qualname == "A"
    assert found.at(1) is None


def test_lines_and_columns() -> None:
    text = IMPORTS + "@decorator\n@other(1)\nclass  Net(nn.Module):\n\n" + FORWARD + "\nx = 1\n"
    (found,) = ModuleFinder().find(text).classes
    lines = text.split("\n")
    assert lines[found.start] == "@decorator"
    assert lines[found.line].startswith("class  Net")
    assert (found.name_column, found.name_width) == (7, 3)
    assert found.forward_line is not None
    assert lines[found.forward_line][found.forward_column :].startswith("forward")
    assert lines[found.end - 1] == "        return x"
    assert found.decorators == ("decorator", "other(1)")
    assert found.fingerprint == fingerprint(text, "Net")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_and_form_feeds(ending: str) -> None:
    text = (IMPORTS + "\f\nx = '\u2028'\n" + CLASS.format(n=1)).replace("\n", ending)
    (found,) = ModuleFinder().find(text).classes
    assert lines_of(text)[found.line].startswith("class Net1")


def test_text_in_column_zero_inside_a_class() -> None:
    text = IMPORTS + textwrap.dedent(
        '''\
        class A(nn.Module):
            """A docstring
        with text in column 0
        class Fake(nn.Module):
            def forward(self, x): ...
        """

            def forward(self, x):
                return torch.add(
        x,
        (1),
        )


        class B(nn.Module):
            def forward(self, x):
                return x
        '''
    )
    found = ModuleFinder().find(text).classes
    assert [(m.qualname, m.broken) for m in found] == [("A", False), ("B", False)]
    assert found[0].fingerprint == fingerprint(text, "A")


def test_the_last_definition_of_a_name_counts() -> None:
    text = IMPORTS + CLASS.format(n=1) + CLASS.format(n=1)
    (found,) = ModuleFinder().find(text).classes
    assert found.line > len(CLASS.splitlines())


BREAKS = {
    "unclosed header": ("class Net20(nn.Module):", "class Net20(nn.Module"),
    "no colon": ("class Net20(nn.Module):", "class Net20(nn.Module)"),
    "unclosed call": ("return self.norm(x) * 20.5", "return self.norm(x"),
    "unclosed bracket": ("return self.norm(x) * 20.5", "return [self.norm(x)"),
    "unterminated docstring": ('    """Block 20."""', '    """Block 20.'),
    "unterminated string": ("return self.norm(x) * 20.5", "return 'x"),
    "half an operator": ("return self.norm(x) * 20.5", "return self.norm(x) *"),
    "half a statement": ("        super().__init__()\n        self.norm = nn.LayerNorm(dim)\n\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        return self.norm(x) * 20.5", "        super().__init__()\n        self.\n\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        return self.norm(x) * 20.5"),  # noqa: E501
    "wrong indent": ("        return self.norm(x) * 20.5", "      x\n        return self.norm(x)"),
    "stray bracket": ("        return self.norm(x) * 20.5", "        return x)"),
    "broken import": ("import torch.nn as nn", "import torch.nn as"),
    "null character": ("return self.norm(x) * 20.5", "return \0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_broken_buffers_keep_their_modules(name: str) -> None:
    before, after = BREAKS[name]
    text = large()
    assert before in text
    broken = text.replace(before, after, 1)
    found = ModuleFinder().find(broken).classes
    assert [m.qualname for m in found] == [f"Net{n}" for n in range(40)]
    whole = [m for m in found if not m.broken]
    assert len(whole) >= 39
    lines = lines_of(broken)
    assert all(lines[m.line].startswith(f"class {m.qualname}") for m in found)
    assert all(lines[m.forward_line].strip().startswith("def forward") for m in found)


def test_a_broken_class_keeps_its_decorators_and_broken_header() -> None:
    text = IMPORTS + "@Net_cuda\nclass Net(\n    nn.Module,\n):\n" + FORWARD + "        y = (\n"
    (found,) = ModuleFinder().find(text).classes
    assert found.broken
    assert found.decorators == ("Net_cuda",)


def test_a_keystroke_parses_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernel_lsp import chunks

    finder, text = ModuleFinder(), large()
    finder.find(text)
    parsed: list[str] = []
    parse = chunks.parse
    monkeypatch.setattr(chunks, "parse", lambda piece: parsed.append(piece) or parse(piece))
    finder.find(text.replace("* 20.5", "* 20.55"))
    assert len(parsed) == 1
    assert parsed[0].startswith("class Net20")


def test_chunks_put_together_are_the_text() -> None:
    text = "# comment\n\n@a\n@b\nclass A: pass\nif x:\n    y\nelse:\n    z\nf(\n1,\n)\n@dangling\n"
    pieces = split(text)
    assert "".join(piece.text for piece in pieces) == text
    assert all(text.split("\n")[p.line] == p.text.split("\n")[0] for p in pieces)


EDIT = st.tuples(
    st.floats(0, 1),
    st.integers(0, 30),
    st.text(st.sampled_from("()[]{}\"'#:@\\\n\t ,.=classdefnn.Module𝒳\0\r\f\u2028"), max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EDIT, max_size=8))
def test_random_edits_never_raise(edits: list[tuple[float, int, str]]) -> None:
    finder, text = ModuleFinder(capacity=50), large(4)
    for where, length, insert in edits:
        at = int(where * len(text))
        text = text[:at] + insert + text[at + length :]
        found = finder.find(text)
        assert found == ModuleFinder().find(text), "what is remembered changes nothing"
        lines = lines_of(text)
        for module in found.classes:
            assert 0 <= module.start <= module.line < module.end <= len(lines)
            assert found.get(module.qualname) is module
        whole = fingerprint(text, "Net1")
        module = found.get("Net1")
        if whole is not None and module is not None and module.fingerprint is not None:
            assert module.fingerprint == whole


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200))
def test_random_text_never_raises(text: str) -> None:
    ModuleFinder().find(text)


def test_deep_nesting_is_no_crash() -> None:
    ModuleFinder().find("x = " + "(" * 10_000 + "\n" + large(2))
    start = time.monotonic()
    assert names(large(2) + "y = " + "-" * 100_000 + "1\n") == ["Net0", "Net1"]
    assert time.monotonic() - start < 60


def test_choose_class() -> None:
    user = "class Outer(nn.Module):\n    def forward(self, x):\n        return Net1()(Net0()(x))\n"
    assert choose_class(large(1)) == "Net0"
    assert choose_class(large(2) + user) == "Outer"
    assert choose_class(large(2) + CLASS.replace("Net{n}", "Model").format(n=3)) == "Model"
    with pytest.raises(CaptureError, match="several modules"):
        choose_class(large(2))
    with pytest.raises(CaptureError, match=r"no nn\.Module"):
        choose_class("x = 1\n")


@pytest.mark.parametrize(
    ("imports", "base", "found"),
    [
        ("from .layers import Base", "Base", True),
        ("from ..pkg.layers import Base as B", "B", True),
        ("from mypkg import layers", "layers.Base", True),
        ("from . import layers", "layers.Base", True),
        ("from timm.models import VisionTransformer", "VisionTransformer", True),
        ("import torch", "torch.autograd.Function", False),
        ("from .functions import Function", "Function", False),
        ("import abc", "abc.ABC", False),
        ("import collections", "collections.UserDict", False),
        ("", "Exception", False),
        ("from .x import mixin", "mixin", False),
    ],
)
def test_a_base_from_another_file_with_a_forward_here(imports, base, found):
    text = f"{imports}\nclass Net({base}):\n{FORWARD}"
    assert names(text) == (["Net"] if found else [])
    assert names(text.replace("forward", "backward")) == []
