import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search_engine import source
from search_engine.source import class_fingerprint, definitions, fingerprint, split_lines

NET = '''\
import torch

# kernel-lsp: Net(512), x=float32[16, 512]
class Net(torch.nn.Module):
    """Does things."""

    def __init__(self, width: int = 0x200, *, scale=1e-3):
        super().__init__()
        self.scale = scale

    @torch.no_grad()
    def forward(self, x, *rest, **named):
        """Forward."""
        y = {**named, "a": -1}
        del (y, rest)
        return x[..., None, 1:] * self.scale if x is not None else f"é{x!r:>{4}}" "tail"
'''
# What every supported Python must answer for NET.
PINNED = "f4a361f73ae22b5e"

FORMATTED_OTHERWISE = """\
import torch
@Net_cuda
class Net(  torch.nn.Module ):
    def __init__( self, width: int=512, *, scale = 0.001, ):
        super().__init__( )
        self.scale = (scale)   # a comment
    @torch.no_grad( )
    def forward(self, x, *rest, **named):
        y = {**named, 'a': -1}
        del y, rest
        return ((x[..., None, 1:] * self.scale) if x is not None else (f'é{x!r:>{4}}' u'tail'))
"""


def test_formatting_comments_docstrings_and_our_decorator_do_not_count():
    assert fingerprint(NET, "Net") == fingerprint(FORMATTED_OTHERWISE, "Net") == PINNED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.scale if", "self.scale + 1 if"),
        ("1e-3", "1e-4"),
        ("None, 1:", "1:"),
        ("x is not None", "x is not False"),
        ("0x200", "512.0"),
        ("@torch.no_grad()", "@torch.enable_grad()"),
        ("class Net(torch.nn.Module)", "@register\nclass Net(torch.nn.Module)"),
        ("!r:>{4}", "!s:>{4}"),
        ('"a": -1', '"a": +1'),
        ("**named, ", ""),
    ],
)
def test_meaning_counts(old, new):
    assert old in NET
    assert fingerprint(NET.replace(old, new, 1), "Net") not in (PINNED, None)


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
def test_the_same_under_every_python(version, tmp_path):
    python = shutil.which(f"python{version}")
    script = "import sys; sys.path.insert(0, sys.argv[1]); from source import fingerprint; "
    script += "print(fingerprint(open(sys.argv[2], encoding='utf-8').read(), 'Net'))"
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    shutil.copy(source.__file__, tmp_path / "source.py")
    command = [python or "", "-c", script, str(tmp_path), str(tmp_path / "net.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if python else None
    if done is None or done.returncode == 127:
        pytest.skip(f"no Python {version} here")
    assert done.stdout.strip() == PINNED, done.stderr


def test_qualified_names():
    text = """
class Outer:
    class Net:
        a = 1
def build():
    if True:
        class Net:
            a = 2
try:
    class Net:
        a = 3
except ImportError:
    class Net:
        a = 4
"""
    found = {name: fingerprint(text, name) for name in ("Outer.Net", "build.<locals>.Net", "Net")}
    assert len(set(found.values())) == 3
    assert None not in found.values()
    tree = ast.parse(text)
    first, last = definitions(tree, "Net")
    assert found["Net"] == class_fingerprint(last) != class_fingerprint(first)
    assert fingerprint(text, "Outer.Missing") is None
    assert fingerprint(text, "build") is None  # a function, not a class


@pytest.mark.parametrize("text", ["class Net(:", "class Net: a = '\0'", "(" * 5000])
def test_no_fingerprint_of_what_does_not_parse(text):
    assert fingerprint(text, "Net") is None


def test_lines_are_counted_as_python_counts_them():
    text = "a = 1\r\nb = '\x0c\u2028'\rc = 3\n\nd"
    assert split_lines(text) == ["a = 1\r\n", "b = '\x0c\u2028'\r", "c = 3\n", "\n", "d"]
    assert "".join(split_lines(text)) == text
    assert ast.parse(text).body[-1].lineno == len(split_lines(text))


def test_imports_no_torch():
    code = "import sys, search_engine.source, search_engine.deliver.edit; "
    code += "print('torch' in sys.modules)"
    root = str(Path(source.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "False"
