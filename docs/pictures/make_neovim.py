"""Makes neovim.png: a real search in a real Neovim, photographed from its terminal.

Needs ``tmux``, ``chromium`` and DejaVu Sans Mono (Debian: ``tmux chromium fonts-dejavu-core``)
besides the development set-up, which brings Neovim. Takes about a minute:

    python docs/pictures/make_neovim.py
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from screenshot import screenshot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "editors"))

from neovim import documented  # noqa: E402

COLUMNS, LINES = 108, 40

# What docs/editors.md tells users to write comes before this: here is only how it looks.
LOOKS = """
vim.o.termguicolors = true
vim.o.number = true
vim.o.signcolumn = 'no'
vim.o.winborder = 'rounded'
vim.o.ruler = false
vim.o.showcmd = false
vim.o.shortmess = vim.o.shortmess .. 'sScF'
vim.opt.fillchars = { eob = ' ' }
vim.cmd.colorscheme('habamax')
vim.api.nvim_set_hl(0, 'Normal', { fg = '#c9d1d9', bg = '#161b22' })
vim.api.nvim_set_hl(0, 'LineNr', { fg = '#484f58' })
vim.api.nvim_set_hl(0, 'NormalFloat', { fg = '#c9d1d9', bg = '#0d1117' })
vim.api.nvim_set_hl(0, 'FloatBorder', { fg = '#3d6ea5', bg = '#0d1117' })
vim.api.nvim_set_hl(0, 'LspCodeLens', { fg = '#79c0ff', italic = true })
vim.api.nvim_set_hl(0, 'LspCodeLensSeparator', { fg = '#484f58' })
vim.api.nvim_set_hl(0, 'LspReferenceTarget', { bg = '#2d3a4d' })
vim.api.nvim_set_hl(0, 'StatusLine', { fg = '#c9d1d9', bg = '#21262d' })
"""


class _Terminal:
    """Neovim in a tmux server of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._run(
            "new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES),
            "-c", str(folder / "project"), "nvim", "residual_norm.py",
            environment=environment,
        )  # fmt: skip

    def _run(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        return subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, env=environment
        ).stdout

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)
        time.sleep(0.7)

    def screen(self, *, colours: bool = False) -> str:
        return self._run("capture-pane", "-p", *(["-e"] if colours else []))

    def until(self, pattern: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.screen()):
            if time.monotonic() > deadline:
                raise SystemExit(f"{pattern!r} did not come up:\n{self.screen()}")
            time.sleep(0.2)

    def close(self) -> None:
        self._run("kill-server")


def configure(folder: Path) -> dict[str, str]:
    """The project, Neovim's configuration, and the environment that it runs in."""
    project = folder / "project"
    project.mkdir()
    shutil.copy(ROOT / "examples" / "residual_norm.py", project)
    (project / "pyproject.toml").touch()
    config = folder / "config" / "nvim" / "init.lua"
    config.parent.mkdir(parents=True)
    config.write_text(f"{documented()}\n{LOOKS}")
    return os.environ | {
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_DATA_HOME": str(folder / "share"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "KERNEL_LSP_DATA": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
    }


def main() -> int:
    """Click, wait for the second round, hover, take the picture, stop the search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--at",
        default=r"round 2/5 · checking [2-9] of",
        help="when to take it: what the screen says",
    )
    parser.add_argument("--out", type=Path, default=HERE / "neovim.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        terminal = _Terminal(folder, configure(folder))
        try:
            terminal.until("Optimize with CUDA kernel", 60)
            terminal.keys("8G")  # the class
            terminal.keys("gK")  # the only lens: Optimize
            terminal.until(options.at)
            terminal.keys("K")
            terminal.until("╭", 10)
            text = terminal.screen(colours=True)
            terminal.keys("Escape")
            terminal.keys("gK")
            choice = re.search(r"(\d): Stop", terminal.screen())
            terminal.keys(choice[1] if choice else "", "Enter")
            terminal.until("Resume|Search again|Accept", 60)
        finally:
            terminal.close()
    screenshot(text, options.out, columns=COLUMNS, title="residual_norm.py · Neovim")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
