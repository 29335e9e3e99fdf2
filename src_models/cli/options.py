"""A parameter model as command line flags: names, choices, defaults and help come from the model's fields.

Values reach the model as text, so that bounds and types are checked in one place, by the model; a refusal is turned
into one sentence that names the flag.
"""

from __future__ import annotations

import argparse
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from pydantic import BaseModel, ValidationError

from src_models.errors import FileError, InputError
from src_models.refusals import problem_of

Model = TypeVar("Model", bound=BaseModel)

_GROUP_TITLES = {
    "basic": "weights and speed",
    "edge": "edge speed",
    "region": "region speed",
    "run": "run",
    "advanced": "advanced",
    "classifier": "speed from strokes, with --strokes",
    "clusters": "speed from clusters of grey values, with --clusters",
}
_NUMBERS = re.compile(r"-[.\d][-+.,:\deE]*\Z")
_LARGEST_TOML = 2**20


def flag(name: str) -> str:
    """The flag of a field: ``edge_power`` is ``--edge-power``."""
    return "--" + name.replace("_", "-")


def add_model(
    parser: argparse.ArgumentParser, model: type[BaseModel], titles: Mapping[str, str] = _GROUP_TITLES
) -> None:
    """Give a parser one flag per field of a parameter model, in groups; flags that are not given leave no trace."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        hints: Mapping[str, Any] = extra if isinstance(extra, dict) else {}
        title = str(hints.get("group", "parameters"))
        if title not in groups:
            groups[title] = parser.add_argument_group(titles.get(title, title))
        unit = f" Unit: {hints['unit']}." if hints.get("unit") else ""
        default = f" Default: {_as_text(field.default)}." if _as_text(field.default) else ""
        text = f"{field.title}. {field.description}{unit}{default}".replace("%", "%%")
        kinds = _kinds(field.annotation)
        options: dict[str, Any] = {"dest": _PREFIX + name, "default": argparse.SUPPRESS, "help": text}
        if kinds == [bool]:
            options["action"] = argparse.BooleanOptionalAction
        elif all(typing.get_origin(kind) is Literal for kind in kinds):
            options["choices"] = [str(choice) for kind in kinds for choice in typing.get_args(kind)]
        else:
            options["metavar"] = "|".join(dict.fromkeys(_metavar(kind) for kind in kinds))
        groups[title].add_argument(flag(name), **options)


_PREFIX = "parameter of the model: "


def given(namespace: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The fields whose flags were on the command line, as the model takes them."""
    return {
        name: _from_text(getattr(namespace, _PREFIX + name), field.annotation)
        for name, field in model.model_fields.items()
        if hasattr(namespace, _PREFIX + name)
    }


def build(model: type[Model], values: Mapping[str, Any], origin: Mapping[str, str] | None = None) -> Model:
    """A model from values, with a refusal as one sentence.

    Parameters
    ----------
    model : type
        The parameter model.
    values : mapping
        Fields by name.
    origin : mapping, optional
        What to call a field in the sentence; by default its flag.

    Raises
    ------
    InputError
        Naming the flag, its value and what is possible.
    """
    try:
        return model(**values)
    except ValidationError as error:
        found = problem_of(error)
        place = found.place.partition(".")[0]
        if not place:
            raise InputError(
                "parameters", "These parameters do not fit together", found.rule, "Change one of them."
            ) from None
        name = (origin or {}).get(place, flag(place))
        if place not in model.model_fields:
            raise InputError("parameter-unknown", f"{name} is not a parameter", "", "See the list in --help.") from None
        shown = _as_text(values.get(place)) or "nothing"
        raise InputError("parameter", f"{name} cannot be {shown}", f"it {found.rule}", "See --help.") from None


def command_line(parameters: BaseModel) -> list[str]:
    """The flags that give this model back, for every field that differs from its default.

    Examples
    --------
    >>> from src_models.levelset import LevelSetParameters
    >>> command_line(LevelSetParameters(speed="region", lower=-50.0, auto_stop=False))
    ['--speed', 'region', '--lower=-50.0', '--no-auto-stop']
    """
    words: list[str] = []
    for name, field in type(parameters).model_fields.items():
        value = getattr(parameters, name)
        if value == field.default or value is None:
            continue
        if isinstance(value, bool):
            words.append(flag(name) if value else "--no-" + name.replace("_", "-"))
        elif (text := _as_text(value)).startswith("-"):
            words.append(f"{flag(name)}={text}")
        else:
            words += [flag(name), text]
    return words


def read_parameter_file(path: Path, model: type[BaseModel], *, apart: str = "") -> dict[str, Any]:
    """The fields in a TOML file of parameters: at its top, or in a table with the name of the model as forms save it.

    `apart` names a table that is something else and stays out; see `read_numbered_tables`.

    Raises
    ------
    FileError
        Where it is missing, is not TOML, or names something that is not a parameter.
    """
    values = _read_toml(path)
    values.pop(apart, None)
    table = values.get(model.__name__)
    if isinstance(table, dict):
        values = table
    _refuse_unknown(values, model, path)
    return values


def read_numbered_tables(path: Path, model: type[BaseModel], name: str) -> dict[int, dict[str, Any]]:
    """The fields of tables like ``[label.3]`` in a TOML file of parameters, by their number.

    Raises
    ------
    FileError
        Where a table has no number, or names something that is not a parameter.
    """
    tables = _read_toml(path).get(name, {})
    found: dict[int, dict[str, Any]] = {}
    for number, values in tables.items() if isinstance(tables, dict) else [("", tables)]:
        if not re.fullmatch(r"[1-9]\d{0,4}", number) or not isinstance(values, dict):
            hint = f"Write a table for each, such as [{name}.3]"
            raise FileError("parameters-table", f"{path.name} has a {name!r} without a number", "", hint)
        _refuse_unknown(values, model, path)
        found[int(number)] = values
    return found


_TOML_HINT = "Give a TOML file with one line per parameter, such as: curvature = 0.3"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_TOML:
            raise FileError("parameters-size", f"{path.name} is not read", "it is larger than 1 MB", _TOML_HINT)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or ""
        raise FileError("parameters-unreadable", f"{path.name} cannot be read", why, _TOML_HINT) from error
    except ValueError as error:
        why = str(error).partition("\n")[0]
        raise FileError("parameters-broken", f"{path.name} is not TOML", why, _TOML_HINT) from error


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], path: Path) -> None:
    for name in values:
        if name not in model.model_fields:
            why = f"{path.name} names {name!r}, which is not a parameter"
            raise FileError("parameter-unknown", why, "", _TOML_HINT)


def join_negative_values(words: Sequence[str]) -> list[str]:
    """Write ``--lower -1e3`` as ``--lower=-1e3``: argparse takes most negative values for flags."""
    joined: list[str] = []
    for word in words:
        if joined and _NUMBERS.match(word) and re.fullmatch(r"--[a-z][^=]*", joined[-1]):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def _kinds(annotation: Any) -> list[Any]:
    """The alternatives of an annotation without None."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    return [annotation]


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        return "X,Y,..." if parts[-1] is Ellipsis else ",".join("ABCDEF"[: len(parts)])
    return {float: "X", int: "N"}.get(kind, "TEXT")


def _from_text(value: Any, annotation: Any) -> Any:
    """Text as the model takes it: parts of a tuple apart, numbers among choices as numbers."""
    if not isinstance(value, str):
        return value
    kinds = _kinds(annotation)
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            for choice in typing.get_args(kind):
                if str(choice) == value:
                    return choice
    has_tuple = any(typing.get_origin(kind) is tuple for kind in kinds)
    if has_tuple and ("," in value or len(kinds) == 1):
        return tuple(part.strip() for part in value.split(","))
    return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ",".join(_as_text(part) for part in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
