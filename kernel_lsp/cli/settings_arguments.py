"""The search settings as command line options, from the settings class itself."""

from __future__ import annotations

import argparse

import attrs

from kernel_lsp.settings import LEAST, out_of_range
from search_engine.errors import KernelLspError
from search_engine.settings import SearchSettings


def add_settings(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """One option for each named field, with the field's docs and default."""
    group = parser.add_argument_group("search settings")
    for attribute in attrs.fields(SearchSettings):
        if attribute.name not in names:
            continue
        option = "--" + attribute.name.replace("_", "-")
        help_text = f"{attribute.metadata['doc']} (default: {attribute.default})"
        if isinstance(attribute.default, bool):
            group.add_argument(option, action="store_true", default=None, help=help_text)
        else:
            group.add_argument(
                option, type=type(attribute.default), default=None, help=help_text,
                metavar=type(attribute.default).__name__.upper(),
            )  # fmt: skip


def settings_from(options: argparse.Namespace) -> SearchSettings:
    """The settings with what was given. Raises KernelLspError for a value out of range."""
    given = {
        attribute.name: value
        for attribute in attrs.fields(SearchSettings)
        if (value := getattr(options, attribute.name, None)) is not None
    }
    for name in LEAST:
        if name in given and (problem := out_of_range(name, given[name])):
            raise KernelLspError(f"--{name.replace('_', '-')} {problem}.")
    return SearchSettings(**given)
