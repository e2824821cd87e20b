"""The proposers of a search by the names that settings use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search_engine.errors import SetupError
from search_engine.hardware import DeviceFacts
from search_engine.proposers._base import Proposer
from search_engine.settings import SearchSettings


def _playbook(facts: DeviceFacts) -> Proposer:
    from search_engine.proposers.playbook import Playbook

    return Playbook(facts)


KNOWN: dict[str, Callable[[DeviceFacts], Proposer]] = {"playbook": _playbook}


def open_proposers(settings: SearchSettings, facts: DeviceFacts) -> Sequence[Proposer]:
    """The proposers that the settings name, in order. Raises SetupError for unknown names."""
    unknown = [name for name in settings.proposers if name not in KNOWN]
    if unknown or not settings.proposers:
        named = f"there is no proposer {unknown[0]!r}" if unknown else "none is set"
        raise SetupError(f"Set `proposers` to any of {', '.join(KNOWN)}: {named}.")
    return [KNOWN[name](facts) for name in settings.proposers]
