"""A package with relative imports and two shapes, by the command line alone, and back."""

import subprocess
import sys
from pathlib import Path

import pytest

from kernel_lsp.cli import main
from search_engine.deliver.join import runtime

LAYERS = """\
from torch import nn


class Base(nn.Module):
    def scaled(self, x):
        return x * 3.0
"""
NET = """\
import torch

from ..layers import Base


# kernel-lsp: x=float32[8, 16], flag=True
# kernel-lsp: x=float32[3, 16]
class Net(Base):
    def forward(self, x, flag: bool = False):
        out = torch.relu(self.scaled(x))
        return {"out": out, "flag": flag, "more": (out + 1, None)}
"""
USE = """\
import torch
from projpkg.nets.net import Net
from projpkg.nets.net_cuda.Net import VERIFIED, explain
net, x = Net().eval(), torch.randn(3, 16)
result = net(x)
assert list(result) == ["out", "flag", "more"] and result["more"][1] is None
assert torch.equal(result["out"], torch.relu(x * 3.0))
assert "(device)" in explain(net, x), explain(net, x)
assert len(VERIFIED.cases) == 2
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "src/projpkg/__init__.py": "",
        "src/projpkg/layers.py": LAYERS,
        "src/projpkg/nets/__init__.py": "",
        "src/projpkg/nets/net.py": NET,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "src"


def test_a_package_there_and_back(
    data: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "projpkg/nets/net.py"
    limits = ["--rounds", "1", "--ideas", "1", "--branches", "1"]
    assert main(["optimize", str(path), "--device", "cpu", *limits]) == 0
    shown = capsys.readouterr().out
    assert "x float32[8, 16], flag True; then x float32[3, 16]" in shown
    assert main(["show", "last"]) == 0
    shown = capsys.readouterr().out
    assert "Verified at:" in shown
    assert main(["accept", "last"]) == 0
    folder = path.parent / "net_cuda"
    delivered = sorted(item.name for item in folder.glob("*.py"))
    assert delivered == sorted(["Net.py", "__init__.py", f"{runtime()[0]}.py"])
    assert "from .net_cuda.Net import Net_cuda\n" in path.read_text()
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache"]
    subprocess.run([*ruff, "--select", "E4,E7,E9,F,I,B", str(folder)], check=True)
    subprocess.run([sys.executable, "-c", USE], cwd=project, check=True)
    assert main(["revert", "last"]) == 0
    assert path.read_text() == NET
    assert not folder.exists()
