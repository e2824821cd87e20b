"""The documentation names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]
    assert not missing


def test_the_walkthrough_names_files_of_the_code() -> None:
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|lark))`", text))
    assert len(named) > 30
    files = [
        path.relative_to(ROOT).as_posix()
        for package in ("search_engine", "kernel_lsp", "examples")
        for path in (ROOT / package).rglob("*.*")
    ]
    assert not [name for name in named if not any(("/" + f).endswith("/" + name) for f in files)]


def test_the_walkthrough_names_folders_of_the_code() -> None:
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## .*$", text, flags=re.MULTILINE)
    named = re.findall(r"`([\w/.]+)`", " ".join(headings))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
