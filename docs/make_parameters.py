"""Writes `docs/parameters.md` from the parameter model, so that the page and the program cannot differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from src_models.levelset.parameters import LevelSetParameters

PAGE = Path(__file__).with_name("parameters.md")
HEADING = """# Parameters of the level set

Written by `make docs` from `LevelSetParameters`: do not edit. The same names are the fields of the form, the options of
`lsnet evolve` (with `-` in place of `_`), the arguments in Python and the entries of the record.
"""
GROUPS = {
    "basic": "Basic",
    "advanced": "Advanced: the scheme",
    "edge": "Advanced: edge speed",
    "region": "Advanced: region speed",
    "run": "The run",
}


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
            parts.append("two numbers" if option.get("maxItems") == 2 else "one number per axis")
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
    schema = LevelSetParameters.model_json_schema()["properties"]
    lines = [HEADING]
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| name | label | unit | default | values | meaning |", "| --- " * 6 + "|"]
        for name, info in LevelSetParameters.model_fields.items():
            field = schema[name]
            if field["group"] == group:
                cells = (f"`{name}`", info.title, field["unit"], _default(info), _values(field), info.description)
                lines.append("| " + " | ".join((cell or "").replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
