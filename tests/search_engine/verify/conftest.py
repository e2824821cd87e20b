from __future__ import annotations

import sys

import pytest

from search_engine.capture.capture import capture
from search_engine.hardware import H200
from search_engine.task import CaptureRequest


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Captures a text as a file of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    finders, modules = list(sys.meta_path), set(sys.modules)

    def take(text, qualname=None):
        header = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        path = str(tmp_path / "verified_net.py")
        return capture(CaptureRequest(path, header + text, qualname), H200)

    yield take
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
