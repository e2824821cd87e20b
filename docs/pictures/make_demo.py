"""Makes demo.png: what ``make demo`` prints, up to the hover.

Needs what ``make_neovim.py`` needs, but for Neovim. Takes about a minute:

    python docs/pictures/make_demo.py
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from screenshot import screenshot

HERE = Path(__file__).resolve().parent
UP_TO = "The lens now"  # the heading behind the last line shown


def main() -> int:
    """Run the demo with colours and draw its first three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "demo.png")
    options = parser.parse_args()
    done = subprocess.run(
        [sys.executable, str(HERE.parents[1] / "examples" / "demo.py")],
        env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.strip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    end = next(number for number, line in enumerate(plain) if line.startswith(UP_TO))
    shown = "\n".join(["\x1b[2m$\x1b[0m make demo", *lines[:end]])
    screenshot(shown.rstrip(), options.out, columns=101, title="make demo")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
