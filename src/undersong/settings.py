"""Settings: one TOML file, one table and one frozen dataclass per stage, no other source.

Every setting has a default; its type is the type of that default. A default that is a dataclass
itself is a table within the table: ``[general.loss]``.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from undersong.errors import SettingsError, nearest_known

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    SettingsError
        If the file is absent, not UTF-8, or not TOML, with the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path} is missing; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def read(
    path: Path | None, kinds: Mapping[str, type["DataclassInstance"]]
) -> dict[str, "DataclassInstance"]:
    """Build one dataclass per table of a TOML file, as ``build_all``; without one, the defaults."""
    return build_all(read_toml(path) if path else {}, kinds, str(path))


def build_all(
    tables: Mapping[str, Any], kinds: Mapping[str, type["DataclassInstance"]], where: str
) -> dict[str, "DataclassInstance"]:
    """Build one dataclass per table; an absent table means the defaults.

    Raises
    ------
    SettingsError
        For an unknown table or key (with the closest known one), a value of another type, or a
        value the dataclass refuses; ``where`` begins the message.
    """
    for name, table in tables.items():
        if name not in kinds:
            raise SettingsError(f"{where}: no table {name!r}; {nearest_known(name, kinds)}")
        if not isinstance(table, Mapping):
            raise SettingsError(f"{where}: [{name}] is {table!r}, expected a table of settings")
    return {name: build(kinds[name], tables.get(name, {}), f"{where}: [{name}]") for name in kinds}


def build(
    kind: type["DataclassInstance"], table: Mapping[str, Any], where: str
) -> "DataclassInstance":
    """Build one dataclass from one table; ``where`` begins every error message."""
    known = {field.name: field.default for field in fields(kind)}
    values = _values(table, known, where)
    try:
        return kind(**values)
    except ValueError as error:
        raise SettingsError(f"{where} {error}") from error


def _values(table: Mapping[str, Any], known: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check each value against the type of its default; tables within change that default."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise SettingsError(f"{where} has no {key!r}; {nearest_known(key, known)}")
        default = known[key]
        want = type(default)
        if is_dataclass(default) and not isinstance(default, type) and isinstance(value, Mapping):
            values[key] = _changed(default, value, f"{where} {key}:")
            continue
        typed = tuple(value) if isinstance(value, list) else value
        if type(typed) is not want and not (want is float and type(typed) is int):
            raise SettingsError(f"{where} {key} is {value!r}, expected {want.__name__}")
        values[key] = want(typed)
    return values


def _changed(
    default: "DataclassInstance", table: Mapping[str, Any], where: str
) -> "DataclassInstance":
    """Change some settings of a nested table and keep the others as the outer default has them."""
    known = {field.name: getattr(default, field.name) for field in fields(default)}
    try:
        return replace(default, **_values(table, known, where))
    except ValueError as error:
        raise SettingsError(f"{where} {error}") from error


# Of a field that an earlier version did not have: a record leaves it out where it is the default.
LATER = {"later": True}


def as_recorded(settings: "DataclassInstance") -> dict[str, Any]:
    """Return settings as a record of them holds them, nested tables included.

    A field marked ``LATER`` is left out at its default, so that what an earlier version recorded
    still stands for the same settings.
    """
    values: dict[str, Any] = {}
    for known in fields(settings):
        value = getattr(settings, known.name)
        if known.metadata != LATER or value != known.default:
            nested = is_dataclass(value) and not isinstance(value, type)
            values[known.name] = as_recorded(value) if nested else value
    return values


def first_difference(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Name the first setting that is not what is wanted, with both values; "" if all are.

    Parameters
    ----------
    settings, wanted : settings as JSON gives them, nested tables or dotted paths
    """
    for name in {**wanted, **settings}:
        there, here = settings.get(name), wanted.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            if inner := first_difference(there, here):
                return f"{name}.{inner}"
        elif there != here:
            return f"{name} is {there!r}, not {here!r}"
    return ""


Settings = TypeVar("Settings")


def with_changes(settings: Settings, changes: Mapping[str, Any], *, where: str) -> Settings:
    """Change settings by their dotted paths, such as ``loss.known.alpha``.

    Raises
    ------
    SettingsError
        If there is no such setting, or it refuses the value; ``where`` begins the message.
    """
    for path, value in changes.items():
        try:
            settings = _replaced(settings, path.split("."), value)
        except (AttributeError, ValueError) as error:
            raise SettingsError(f"{where} {path} = {value!r}: {error}") from error
    return settings


def _replaced(settings: Any, names: list[str], value: Any) -> Any:
    name, *rest = names
    inner = getattr(settings, name)
    return replace(settings, **{name: _replaced(inner, rest, value) if rest else value})
