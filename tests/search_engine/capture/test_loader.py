from __future__ import annotations

import inspect
import sys

import pytest

from search_engine.capture.loader import locate
from search_engine.errors import CaptureError

NET = (
    "class Net(nn.Module):\n"
    "    def forward(self, x): return x * FACTOR\n"
    "def get_inputs(): return [torch.ones(2)]\n"
)


def factor(captured):
    return captured.task.graph.nodes[0].args[1]


def test_the_buffer_is_read_and_not_the_file(take, tmp_path):
    (tmp_path / "net_under_test.py").write_text("raise RuntimeError('stale')\n")
    captured = take("FACTOR = 3\n" + NET)
    assert factor(captured) == 3
    source = inspect.getsource(type(captured.module))
    assert "x * FACTOR" in source
    assert not (tmp_path / "__pycache__").exists()


def test_a_changed_buffer_is_read_again(take):
    assert factor(take("FACTOR = 3\n" + NET)) == 3
    assert factor(take("FACTOR = 4\n" + NET)) == 4


def test_siblings_are_found_as_python_would(take, tmp_path):
    (tmp_path / "sibling_module.py").write_text("FACTOR = 5\n")
    assert factor(take("from sibling_module import FACTOR\n" + NET)) == 5


def test_relative_imports_in_a_package(take, tmp_path):
    inner = tmp_path / "outer_package" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "outer_package" / "__init__.py").write_text("FACTOR = 6\n")
    # The package itself imports the buffer's module: it must get the buffer too.
    (inner / "__init__.py").write_text("from .net import Net\n")
    (inner / "net.py").write_text("raise RuntimeError('stale')\n")
    (inner / "beside.py").write_text("TWICE = 2\n")
    text = "from .. import FACTOR as ONCE\nfrom .beside import TWICE\nFACTOR = ONCE * TWICE\n" + NET
    captured = take(text, path="outer_package/inner/net.py")
    assert factor(captured) == 12
    assert captured.task.module_name == "outer_package.inner.net"


def test_it_is_never_main_and_argv_is_bare(take, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kernel-lsp", "--secret"])
    text = "import sys\nassert __name__ != '__main__'\nassert len(sys.argv) == 1\nFACTOR = 2\n"
    text += NET + "if __name__ == '__main__':\n    raise SystemExit(1)\n"
    assert factor(take(text)) == 2
    assert take(text, path="__main__.py").task.module_name == "main"


def test_nothing_is_printed(take, capfd):
    text = "import os\nprint('one')\nos.write(1, b'two')\nFACTOR = 2\n"
    text += NET.replace("return x", "print('three'); return x")
    take(text)
    assert capfd.readouterr().out == ""


def test_a_name_that_is_taken_is_said(take):
    with pytest.raises(CaptureError, match=r"random\.py has the name of the module 'random'"):
        take("FACTOR = 2\n" + NET, path="random.py")


def test_names(tmp_path):
    assert locate(str(tmp_path / "19_ReLU.py")).module_name == "19_ReLU"
    assert locate(str(tmp_path / "net.v2.py")).module_name == "net_v2"
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    found = locate(str(tmp_path / "pkg" / "__init__.py"))
    assert (found.module_name, found.is_package, found.root) == ("pkg", True, str(tmp_path))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch", "net"),
        ("from .layers import A", "inner.net"),
        ("from ..layers import A", "outer_ns.inner.net"),
        ("from outer_ns.inner.layers import A", "outer_ns.inner.net"),
        ("import json.decoder", "net"),
    ],
)
def test_packages_without_init_are_told_by_the_imports(tmp_path, line, name):
    path = tmp_path / "outer_ns" / "inner" / "net.py"
    path.parent.mkdir(parents=True)
    assert locate(str(path), line).module_name == name


def test_a_folder_of_a_known_packages_name_is_none(tmp_path):
    path = tmp_path / "torch" / "net.py"
    path.parent.mkdir()
    assert locate(str(path), "import torch").module_name == "net"


def test_a_package_without_init_imports(take, tmp_path):
    folder = tmp_path / "nsroot" / "nsinner"
    folder.mkdir(parents=True)
    (folder / "layers.py").write_text("FACTOR = 3.0\n")
    text = (
        "from .layers import FACTOR\n# kernel-lsp: x=float32[4]\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x): return x * FACTOR\n"
    )
    captured = take(text, path=str(folder / "net.py"))
    assert captured.task.module_name == "nsinner.net"
    assert captured.task.graph.nodes[0].args[1] == 3.0
