"""What a search runs on, from what is installed and the device that was opened."""

from __future__ import annotations

import importlib.metadata
import platform

from search_engine.judgement import DeviceInfo
from search_engine.store.records import Environment


def environment_of(device: DeviceInfo) -> Environment:
    """Versions of this interpreter's packages, and the device."""
    return Environment(
        device=device.name,
        gpu=device.facts.name,
        torch=_version("torch"),
        python=platform.python_version(),
        kernel_lsp=_version("kernel-lsp"),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
