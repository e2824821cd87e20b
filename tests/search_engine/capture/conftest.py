from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search_engine.capture.capture import capture
from search_engine.hardware import H200
from search_engine.task import CaptureRequest

HEADER = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"  # 3 lines


@pytest.fixture
def take(tmp_path, monkeypatch):
    """Captures a text as if it were saved at ``tmp_path/net_under_test.py``."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))

    def capture_text(text, qualname=None, *, path="net_under_test.py", header=HEADER, **options):
        where = Path(tmp_path) / path
        return capture(CaptureRequest(str(where), header + text, qualname, **options), H200)

    modules = set(sys.modules)
    finders = list(sys.meta_path)
    yield capture_text
    sys.meta_path[:] = finders
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[name]
