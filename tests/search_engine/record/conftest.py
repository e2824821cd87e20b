"""Scripts to record: with the real torch, and with a stand-in that imports at once."""

import sys
import textwrap

import pytest

from search_engine.record.command import parse_command
from search_engine.record.launch import record

STAND_IN = """
import types

class Tensor: ...

class Module:
    training = True
    def __init__(self): ...
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)
    def parameters(self):
        return []
    named_parameters = named_buffers = parameters

nn = types.SimpleNamespace(Module=Module, Parameter=type("Parameter", (Tensor,), {}))
compiler = types.SimpleNamespace(is_compiling=lambda: False)
jit = types.SimpleNamespace(is_tracing=lambda: False)
float32, float16, bfloat16, float64 = object(), object(), object(), object()
def is_grad_enabled():
    return False
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to write scripts into; ``project("name.py", text)``."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def write(name, text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A torch with modules and nothing else: for what does not depend on the real one."""
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "torch.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-in"))


@pytest.fixture
def run(project):
    """Record a command line under this Python; the outcome and its recordings by class."""

    def go(*words):
        recorded = record(parse_command([sys.executable, *words], sys.executable))
        return recorded, {r.qualname: r for r in recorded.recordings}

    return go
