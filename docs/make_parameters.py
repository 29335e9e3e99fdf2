"""Writes `docs/parameters.md` from the parameter model, so that the page and the program cannot differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from src_models.levelset.classifier import ClassifierParameters
from src_models.levelset.clustering import ClusterParameters
from src_models.levelset.parameters import LevelSetParameters

PAGE = Path(__file__).with_name("parameters.md")
HEADING = """# Parameters of the level set

Written by `make docs` from `LevelSetParameters` and the two models of the last tables: do not edit. The same names are
the fields of the form, the options of `lsnet evolve` (with `-` in place of `_`), the arguments in Python and the
entries of the record.
"""
GROUPS = {
    "basic": "Basic",
    "advanced": "Advanced: the scheme",
    "edge": "Advanced: edge speed",
    "region": "Advanced: region speed",
    "run": "The run",
    "classifier": "Speed from strokes: `ClassifierParameters`",
    "clusters": "Speed from clusters: `ClusterParameters`",
}
MODELS: tuple[type[BaseModel], ...] = (LevelSetParameters, ClassifierParameters, ClusterParameters)


def _values(field: dict[str, Any]) -> str:
    """What may be given, in words, from the JSON schema of a field."""
    parts = []
    for option in field.get("anyOf", [field]):
        if "enum" in option:
            parts.append(", ".join(f"`{value}`" for value in option["enum"]))
        elif "const" in option:
            parts.append(f"`{option['const']}`")
        elif option.get("type") == "boolean":
            parts.append("yes or no")
        elif option.get("type") == "array":
            most = option.get("maxItems")
            several = "two numbers" if most == 2 else f"up to {most} numbers"
            parts.append(several if most else "one number per axis")
        elif option.get("type") in ("number", "integer"):
            parts.append(_bounds(option))
    return " or ".join(parts)


def _bounds(option: dict[str, Any]) -> str:
    word = "whole number" if option["type"] == "integer" else "number"
    low = option.get("minimum", option.get("exclusiveMinimum"))
    high = option.get("maximum")
    above = "above" if "exclusiveMinimum" in option else "from"
    if low is None:
        return word
    return f"{word} {above} {low:g}" + (f" to {high:g}" if high is not None else "")


def _default(info: FieldInfo) -> str:
    if isinstance(info.default, bool):
        return "yes" if info.default else "no"
    return "empty" if info.default is None else f"`{info.default}`"


def page() -> str:
    """The whole page as text."""
    fields = {name: info for model in MODELS for name, info in model.model_fields.items()}
    schema = {name: field for model in MODELS for name, field in model.model_json_schema()["properties"].items()}
    lines = [HEADING]
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| name | label | unit | default | values | meaning |", "| --- " * 6 + "|"]
        for name, info in fields.items():
            field = schema[name]
            if field["group"] == group:
                cells = (f"`{name}`", info.title, field["unit"], _default(info), _values(field), info.description)
                lines.append("| " + " | ".join((cell or "").replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
