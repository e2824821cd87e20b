"""Makes vscode.png: a real search in a real VS Code, photographed in headless Chromium.

Needs what the editor tests need: ``make test-editors`` installs it. Takes about a minute:

    python docs/pictures/make_vscode.py
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "editors"))

from workbench import visual_studio_code  # noqa: E402

SIZE = (1080, 640)  # CSS pixels, drawn at twice that


def main() -> int:
    """Click, wait for the second round, hover, take the picture, stop the search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--at",
        default=r"round 2/5 · checking [2-9] of",
        help="when to take it: what the status bar says",
    )
    parser.add_argument("--out", type=Path, default=HERE / "vscode.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        project = folder / "project"
        project.mkdir()
        shutil.copy(ROOT / "examples" / "residual_norm.py", project)
        with visual_studio_code(
            project, folder / "code", settings={"interpreter": sys.executable},
            environment={"KERNEL_LSP_DATA": str(folder / "data")}, size=SIZE, scale=2,
        ) as editor:  # fmt: skip
            editor.open("residual_norm.py")
            editor.until_lens("Optimize with CUDA kernel")
            editor.page.keyboard.press("Control+b")  # no side bar
            editor.click_lens("Optimize with CUDA kernel")
            editor.until(lambda: re.search(options.at, editor.status), options.at, 600)
            editor.hover("ResidualNorm")
            editor.page.wait_for_timeout(1500)  # it fades in
            editor.page.screenshot(path=options.out)
            editor.page.keyboard.press("Escape")
            editor.click_lens("Stop")
            editor.until(lambda: "Stop" not in editor.lens, "the end of the search")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
