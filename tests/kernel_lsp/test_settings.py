"""Settings from JSON: one sentence per mistake, and the rest is used."""

from __future__ import annotations

import pytest
from attrs import fields

from kernel_lsp.settings import ServerSettings, camel, read_settings, schema
from search_engine.settings import SearchSettings


def test_defaults_and_nulls() -> None:
    assert read_settings(None) == (ServerSettings(), [])
    assert read_settings({"interpreter": None, "search": {"rounds": None}})[0] == ServerSettings()


def test_values_are_taken_on_top_of_a_base() -> None:
    base, _ = read_settings({"interpreter": "/usr/bin/python3", "search": {"ideas": 2}})
    settings, problems = read_settings(
        {"search": {"stopAtLimit": 1, "proposers": ["playbook", "openai"]}}, base
    )
    assert problems == []
    assert settings.interpreter == "/usr/bin/python3"
    assert settings.search == SearchSettings(
        ideas=2, stop_at_limit=1.0, proposers=("playbook", "openai")
    )
    assert isinstance(settings.search.stop_at_limit, float)


def test_unknown_keys_share_one_sentence() -> None:
    _, (problem,) = read_settings({"interpeter": "x", "search": {"braches": 3}})
    assert "kernel-lsp.interpeter, kernel-lsp.search.braches" in problem
    assert "did you mean kernel-lsp.interpreter and kernel-lsp.search.branches?" in problem


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"search": {"rounds": 0}}, "kernel-lsp.search.rounds has to be a whole number of 1"),
        ({"search": {"rounds": 2.5}}, "a whole number"),
        ({"search": {"rounds": True}}, "a whole number"),
        ({"search": {"minutes": "long"}}, "a number"),
        ({"search": {"minutes": float("nan")}}, "a number of 0.05 or more"),
        ({"search": {"unguarded": "yes"}}, "true or false"),
        ({"search": {"proposers": "playbook"}}, "a list of names"),
        ({"search": {"proposers": []}}, "a list of names"),
        ({"interpreter": 3}, "a text"),
        ({"search": 3}, "an object"),
        ([], "an object"),
    ],
)
def test_a_bad_value_keeps_the_default(value: object, says: str) -> None:
    settings, (problem,) = read_settings(value)
    assert settings == ServerSettings()
    assert says in problem
    assert problem.endswith(".")


def test_the_schema_has_every_setting_with_its_text() -> None:
    found = schema()
    for attribute in fields(SearchSettings):
        entry = found[f"kernel-lsp.search.{camel(attribute.name)}"]
        assert entry["description"] == attribute.metadata["doc"]
    assert found["kernel-lsp.dataFolder"]["type"] == "string"
    assert found["kernel-lsp.search.rounds"] == {
        "type": "integer",
        "default": 5,
        "minimum": 1,
        "description": "Rounds of ideas at most.",
    }
