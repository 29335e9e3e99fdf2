"""What is wrong with a value in a parameter model, in words for whoever wrote it: forms, flags, plans, cards.

The library that checks the models speaks to programmers ("Input should be a valid integer, unable to parse string as an
integer"). A person is told which field it is, and what it may be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

_LONGEST = 40
_RULES = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "finite_number": "must be a finite number",
    "value_error": "{error}",
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "literal_error": "must be {expected}",
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be a text",
    "tuple": "must be a list",
    "list": "must be a list",
    "dict": "must be a group of names with values",
    "model": "must be a group of names with values",
    "path": "must be a path",
}


@dataclass(frozen=True)
class Problem:
    """The first thing that is wrong.

    Attributes
    ----------
    place : str
        The field, with dots where it lies deeper: ``"optimiser.rate"``; empty where several do not fit together.
    rule : str
        The end of a sentence that starts with the field: ``"must be above 0"``.
    value : str
        What was given, short and on one line; empty where that tells nothing.
    """

    place: str
    rule: str
    value: str = ""

    @property
    def sentence(self) -> str:
        """All of it, without the final full stop: ``"optimiser.rate must be above 0, not -1"``."""
        told = f", not {self.value}" if self.value and self.rule.startswith("must be") else ""
        return f"{self.place} {self.rule}".strip() + told


def problem_of(error: ValidationError) -> Problem:
    """The first problem of an error, in words.

    Examples
    --------
    >>> from pydantic import BaseModel, Field
    >>> class Plan(BaseModel):
    ...     epochs: int = Field(1, ge=1)
    >>> try:
    ...     Plan(epochs=0)
    ... except ValidationError as error:
    ...     problem_of(error).sentence
    'epochs must be 1 or more, not 0'
    """
    return problems_of(error)[0]


def problems_of(error: ValidationError) -> list[Problem]:
    """Every problem of an error, in words."""
    return [_problem(found) for found in error.errors(include_url=False)]


def _problem(found: Any) -> Problem:
    kind = str(found["type"])
    # untrusted files may name fields and values in any way
    place = ".".join(_plain(part) for part in found["loc"])
    value = found["input"]
    shown = _plain(value) if isinstance(value, str | int | float) else ""
    rule = _rule(kind, found)
    if kind == "value_error" and place:
        # a check of ours, which may or may not name its field itself
        rule = rule.removeprefix(place).strip()
        rule = rule if "must" in rule else f"must be {rule}"
    return Problem(place, rule, shown if kind not in ("missing", "extra_forbidden") else "")


def _rule(kind: str, found: Any) -> str:
    if kind in _RULES:
        text = _RULES[kind].format(**found.get("ctx", {}))
        return re.sub(r"'([^' ]+)'", r"\1", text) if kind == "literal_error" else text.rstrip(".")
    return _KINDS.get(kind.partition("_")[0], "cannot be so")


def _plain(value: object) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(value)[: 4 * _LONGEST])
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
