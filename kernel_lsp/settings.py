"""What a person tunes of the server: one class, its docs and defaults, and how JSON is read.

Editors send the settings as initialization options and as the configuration section
``kernel-lsp``; keys are in camel case. The search's own settings are under ``search``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import Attribute, field, fields, frozen

from search_engine.settings import SearchSettings

SECTION = "kernel-lsp"


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@frozen
class ServerSettings:
    """Settings of the server."""

    interpreter: str = field(
        default="",
        metadata=_doc(
            "Path of the Python that has your torch and kernel-lsp; empty: the one that "
            "the server runs under."
        ),
    )
    data_folder: str = field(
        default="",
        metadata=_doc(
            "Folder of searches and logs, on a local disk; empty: KERNEL_LSP_DATA or the "
            "user's data folder."
        ),
    )
    preview_accept: bool = field(
        default=False,
        metadata=_doc(
            "Show Accept's edit in the editor's refactor preview first, where it has one."
        ),
    )
    search: SearchSettings = field(
        factory=SearchSettings, metadata=_doc("Settings of the searches started from now on.")
    )

    @property
    def store_path(self) -> Path:
        """The database that server, command line and searches share."""
        from search_engine.data_folder import data_folder

        folder = Path(self.data_folder).expanduser() if self.data_folder else data_folder()
        return folder / "kernel-lsp.db"


# The least value that makes sense; counts are whole numbers.
LEAST: dict[str, float] = {
    "rounds": 1, "ideas": 1, "branches": 1, "seeds": 1, "minutes": 0.05, "configurations": 1,
    "stop_at_limit": 0.01, "sweep_seconds": 0.1, "import_timeout": 0.1, "kernel_timeout": 0.1,
    "cache_gigabytes": 0.05,
}  # fmt: skip


def out_of_range(name: str, value: float) -> str:
    """What a setting's value must be and is not; empty for one that will do.

    NaN compares with nothing: a search of NaN minutes would never end.
    """
    if not math.isfinite(value):
        return f"must be a finite number, not {value:g}"
    if value < LEAST.get(name, value):
        return f"must be at least {LEAST[name]:g}, not {value:g}"
    return ""


def camel(name: str) -> str:
    """``stop_at_limit`` as editors write it: ``stopAtLimit``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def read_settings(
    value: object, base: ServerSettings | None = None
) -> tuple[ServerSettings, list[str]]:
    """Settings from JSON on top of ``base``, and one sentence per thing that was wrong.

    A wrong value keeps what ``base`` has; all unknown keys share one sentence.
    """
    problems: list[str] = []
    unknown: list[str] = []
    settings = base or ServerSettings()
    if value is not None:
        settings = _read(settings, value, "", problems, unknown)
    if unknown:
        import difflib  # not before `initialize` is answered

        known = sorted(_keys(ServerSettings, ""))
        hints = [hint for key in unknown for hint in difflib.get_close_matches(key, known, 1)]
        meant = f"; did you mean {' and '.join(hints)}?" if hints else "."
        problems.insert(0, f"Settings that kernel-lsp does not know: {', '.join(unknown)}{meant}")
    return settings, problems


def _read(
    settings: Any, value: object, prefix: str, problems: list[str], unknown: list[str]
) -> Any:
    if not isinstance(value, Mapping):
        problems.append(
            f"The setting {SECTION}{'.' + prefix.rstrip('.') if prefix else ''} has to be an "
            f"object with settings, not {value!r}."
        )
        return settings
    known = {camel(attribute.name): attribute for attribute in fields(type(settings))}
    changes: dict[str, Any] = {}
    for key, item in value.items():
        attribute = known.get(key)
        if attribute is None:
            unknown.append(f"{SECTION}.{prefix}{key}")
            continue
        if item is None:  # how editors say "not set"
            continue
        current = getattr(settings, attribute.name)
        if isinstance(current, SearchSettings):
            changes[attribute.name] = _read(current, item, f"{key}.", problems, unknown)
            continue
        read, expected = _value(attribute, item)
        if expected:
            problems.append(
                f"The setting {SECTION}.{prefix}{key} has to be {expected}, not {item!r}: "
                f"{current!r} is used."
            )
        else:
            changes[attribute.name] = read
    from attrs import evolve

    return evolve(settings, **changes) if changes else settings


def _value(attribute: Attribute[Any], item: object) -> tuple[Any, str]:
    """The value as the attribute wants it, and what was expected where it is not that."""
    default = attribute.default
    least = LEAST.get(attribute.name)
    if isinstance(default, bool):
        return item, "" if isinstance(item, bool) else "true or false"
    if isinstance(default, str):
        return item, "" if isinstance(item, str) else "a text"
    if isinstance(default, tuple):
        if isinstance(item, list | tuple) and item and all(isinstance(i, str) for i in item):
            return tuple(item), ""
        return item, "a list of names"
    whole = isinstance(default, int)
    kinds = (int,) if whole else (int, float)
    if isinstance(item, bool) or not isinstance(item, kinds) or out_of_range(attribute.name, item):
        kind = "a whole number" if whole else "a number"
        return item, kind if least is None else f"{kind} of {least:g} or more"
    return (item if whole else float(item)), ""


def _keys(kind: Any, prefix: str) -> list[str]:
    found: list[str] = []
    for attribute in fields(kind):
        key = f"{SECTION}.{prefix}{camel(attribute.name)}"
        found += _keys(SearchSettings, "search.") if attribute.name == "search" else [key]
    return found


def schema() -> dict[str, dict[str, Any]]:
    """Every setting by its full key with type, default and description, as editors want it."""
    return _schema(ServerSettings, "")


def _schema(kind: Any, prefix: str) -> dict[str, dict[str, Any]]:
    names: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found: dict[str, dict[str, Any]] = {}
    for attribute in fields(kind):
        if attribute.name == "search":
            found |= _schema(SearchSettings, "search.")
            continue
        default = attribute.default
        entry: dict[str, Any] = {"description": attribute.metadata["doc"]}
        if isinstance(default, tuple):
            entry |= {"type": "array", "items": {"type": "string"}, "default": list(default)}
        else:
            entry |= {"type": names[type(default)], "default": default}
        if attribute.name in LEAST:
            entry["minimum"] = LEAST[attribute.name]
        found[f"{SECTION}.{prefix}{camel(attribute.name)}"] = entry
    return found
