"""Makes icon.png: a block of threads with one warp lit, drawn by headless Chromium.

python editors/vscode/make_icon.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

SIZE = 256  # pixels; the marketplace shows 128
OUT = Path(__file__).with_name("icon.png")

THREADS, LIT = 4, ((0, 3), (1, 2), (2, 1), (3, 0))  # the diagonal: upwards
CELL, GAP = 34, 12


def drawing() -> str:
    """The icon as SVG."""
    edge = (SIZE - THREADS * CELL - (THREADS - 1) * GAP) / 2
    cells = []
    for row in range(THREADS):
        for column in range(THREADS):
            x, y = (edge + place * (CELL + GAP) for place in (column, row))
            fill = "url(#lit)" if (row, column) in LIT else "#2b3645"
            cells.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="8" fill="{fill}"/>'
            )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}">
<defs><linearGradient id="lit" gradientUnits="userSpaceOnUse" x1="{edge}" y1="{SIZE - edge}"
 x2="{SIZE - edge}" y2="{edge}"><stop stop-color="#ee4c2c"/><stop offset="1" stop-color="#76b900"/>
</linearGradient></defs>
<rect width="{SIZE}" height="{SIZE}" rx="52" fill="#0d1117"/>{"".join(cells)}</svg>"""


def main() -> int:
    """Draw it."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "icon.html"
        page.write_text(f"<!doctype html><style>body {{ margin: 0 }}</style>{drawing()}")
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--default-background-color=00000000", f"--user-data-dir={folder}/profile",
             f"--window-size={SIZE},{SIZE}", f"--screenshot={OUT}", page.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
