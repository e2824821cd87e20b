"""A terminal's text with its colours as a PNG, drawn by headless Chromium."""

from __future__ import annotations

import html
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

FONT = 15  # CSS pixels
LINE = 17.5  # so that box-drawing characters meet
CELL = 9.03  # advance of DejaVu Sans Mono at 15 pixels
MARGIN = 28
BAR = 38

THEME = TerminalTheme(
    (22, 27, 34), (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (126, 231, 135), (227, 179, 65),
     (121, 192, 255), (210, 168, 255), (118, 227, 234), (201, 209, 217)],
    [(110, 118, 129), (255, 161, 152), (154, 240, 163), (240, 200, 100),
     (165, 214, 255), (226, 197, 255), (179, 240, 255), (240, 246, 252)],
)  # fmt: skip

_CONSOLE = Console(color_system="truecolor", force_terminal=True)

PAGE = """<!doctype html><meta charset="utf-8"><style>
html, body {{ margin: 0; background: transparent; }}
.window {{ margin: {margin}px; margin-top: {top}px; border-radius: 10px; overflow: hidden;
  background: {background}; box-shadow: 0 0 0 1px #30363d, 0 10px 26px rgba(1, 4, 9, .45); }}
.bar {{ height: {bar}px; display: flex; align-items: center; background: #21262d;
  font: 13px "DejaVu Sans", sans-serif; color: #8b949e; position: relative; }}
.bar i {{ width: 12px; height: 12px; border-radius: 50%; margin-left: 8px; background: #484f58; }}
.bar i:first-child {{ margin-left: 16px; }}
.bar span {{ position: absolute; left: 0; right: 0; text-align: center; }}
pre {{ margin: 0; padding: 12px 16px 14px; color: {foreground};
  font: {font}px/{line}px "DejaVu Sans Mono", monospace; font-variant-ligatures: none; }}
pre span {{ display: inline-block; height: {line}px; vertical-align: top; }}
</style><div class="window"><div class="bar"><i></i><i></i><i></i><span>{title}</span></div>
<pre>{body}</pre></div>
"""


def screenshot(text: str, out: Path, *, columns: int, title: str) -> None:
    """Draw ANSI text of so many columns as a window with a title."""
    lines = text.rstrip("\n").split("\n")
    body = "\n".join(_line(Text.from_ansi(line)) for line in lines)
    page = PAGE.format(
        margin=MARGIN, top=MARGIN // 2, bar=BAR, font=FONT, line=LINE, title=html.escape(title),
        background=THEME.background_color.hex, foreground=THEME.foreground_color.hex, body=body,
    )  # fmt: skip
    width = round(columns * CELL) + 32 + 2 * MARGIN
    height = math.ceil(len(lines) * LINE) + 26 + BAR + MARGIN + MARGIN // 2
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("chromium is needed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu",
             "--disable-background-networking", "--hide-scrollbars",
             "--force-device-scale-factor=2", "--default-background-color=00000000",
             f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
             f"--screenshot={out.resolve()}", source.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def _line(text: Text) -> str:
    """One line as HTML: a span for each run of one style."""
    parts: list[str] = []
    for segment in text.render(_CONSOLE, end=""):
        words = html.escape(segment.text, quote=False)
        css = _css(segment.style) if segment.style else ""
        parts.append(f'<span style="{css}">{words}</span>' if css else words)
    return "".join(parts)


def _css(style: Style) -> str:
    front = style.color.get_truecolor(THEME).hex if style.color else ""
    back = style.bgcolor.get_truecolor(THEME, foreground=False).hex if style.bgcolor else ""
    if style.reverse:
        front = back or THEME.background_color.hex
        back = style.color.get_truecolor(THEME).hex if style.color else THEME.foreground_color.hex
    rules = [f"color: {front}" if front else "", f"background: {back}" if back else ""]
    rules += ["font-weight: bold" if style.bold else "", "opacity: .65" if style.dim else ""]
    rules += ["font-style: italic" if style.italic else ""]
    rules += ["text-decoration: underline" if style.underline else ""]
    return "; ".join(rule for rule in rules if rule)
