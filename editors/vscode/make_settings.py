"""Writes the server's settings into package.json: names, types, defaults and descriptions.

The settings classes of the server and the engine are the only place where a setting is
described; a test fails where package.json has something else.

    python editors/vscode/make_settings.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kernel_lsp.settings import schema

PACKAGE = Path(__file__).with_name("package.json")

# Paths differ from machine to machine: synchronized settings leave them out.
OF_THE_MACHINE = ("kernel-lsp.interpreter", "kernel-lsp.dataFolder")


def properties() -> dict[str, dict[str, Any]]:
    """``contributes.configuration.properties``, in the order of the classes."""
    found = {}
    for order, (key, entry) in enumerate(schema().items()):
        scope = "machine-overridable" if key in OF_THE_MACHINE else "window"
        found[key] = entry | {"scope": scope, "order": order}
    return found


def main() -> int:
    """Replace the settings in package.json."""
    package = json.loads(PACKAGE.read_text())
    package["contributes"]["configuration"]["properties"] = properties()
    PACKAGE.write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
