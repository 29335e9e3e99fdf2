"""Parameters as TOML files that a person can read, edit and share."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from src_models.errors import FileError, SaveError
from src_models.refusals import problem_of

Model = TypeVar("Model", bound=BaseModel)

# TOML has no word for "no value"; this one stands for it where the default is not already that.
_NONE = "auto"


def save_parameters(model: BaseModel, path: Path) -> None:
    """Write a model as one TOML table named after its class; what was there stays whole if that fails.

    Raises
    ------
    SaveError
        Where the file cannot be written.
    """
    values: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None:
            if field.default is not None:
                values[name] = _NONE
            continue
        values[name] = list(value) if isinstance(value, tuple) else value
    text = tomli_w.dumps({type(model).__name__: values})
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", encoding="utf-8", delete=False) as file:
            temporary = file.name
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SaveError(
            "parameters-not-saved",
            f"{path.name} was not saved",
            error.strerror or "the folder cannot be written",
            "Choose another folder.",
        ) from error


def load_parameters(model_class: type[Model], path: Path) -> Model:
    """Read a model from a file of `save_parameters`.

    Raises
    ------
    FileError
        Where the file is missing, no TOML, of another algorithm, or holds a value that the model refuses.
    """
    hint = "Choose a file that was saved by this form."
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(
            "parameters-missing", f"{path.name} was not read", error.strerror or "it cannot be opened", hint
        ) from error
    except ValueError as error:
        raise FileError("parameters-broken", f"{path.name} was not read", "it is not a TOML file", hint) from error
    table = content.get(model_class.__name__)
    if not isinstance(table, dict):
        raise FileError("parameters-other", f"{path.name} was not read", f"it holds no {model_class.__name__}", hint)
    optional = {name for name, field in model_class.model_fields.items() if type(None) in get_args(field.annotation)}
    values = {name: None if value == _NONE and name in optional else value for name, value in table.items()}
    try:
        return model_class(**values)
    except ValidationError as error:
        why = problem_of(error).sentence
        raise FileError("parameters-value", f"{path.name} was not read", why, "Correct it in the file.") from error
