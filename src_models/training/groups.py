"""Which cases belong to one patient: said by the person or the data set, never guessed.

Slices of one patient on both sides of a split make every score too good, so names that look like slices stop the run.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from src_models.errors import FileError, InputError
from src_models.files.gate import shown

_SLICE = re.compile(r"^(.+?)[_-](?:slice|sl|s|z)?\d+(?=$|[_-])", re.IGNORECASE)


def groups_from(rule: str | Mapping[str, str], cases: Sequence[str]) -> dict[str, str]:
    """The group of each case.

    Parameters
    ----------
    rule : str or mapping
        Case to group; or the path of a CSV file with the columns case and group; or a regular expression whose first
        bracket, or whole match, is the group.
    cases : sequence of str
        Their ids.

    Raises
    ------
    InputError, FileError
        Where a case has no group, the expression cannot be read, or it puts all cases into a single group.
    """
    listed = not isinstance(rule, str) or rule.lower().endswith(".csv")
    if not isinstance(rule, str):
        found = dict(rule)
    elif listed:
        found = _from_csv(Path(rule))
    else:
        found = _from_pattern(rule, cases)
    missing = [name for name in cases if not found.get(name)]
    if missing:
        raise InputError(
            "groups-missing",
            f"{len(missing)} of {len(cases)} cases have no group",
            f"among them {_some(missing)}",
            "Give --groups a rule that covers every case.",
        )
    found = {name: found[name] for name in cases}
    # a list names every case: slices of one patient are meant so; a pattern may only have met too much
    if not listed and len(cases) > 1 and len(set(found.values())) == 1:
        raise InputError(
            "groups-single",
            f"The groups put all {len(cases)} cases into one",
            f"the group is {shown(next(iter(found.values())))}",
            "Give --groups a pattern that tells patients apart.",
        )
    return found


def check_slice_names(cases: Sequence[str]) -> None:
    """Stop where names of 2D files look like slices of one patient.

    Parameters
    ----------
    cases : sequence of str
        Ids of 2D cases for which no groups were given.

    Raises
    ------
    InputError
        With a pattern that may fit.
    """
    stems = {name: match[1] for name in cases if (match := _SLICE.match(name))}
    shared = [stem for stem, count in Counter(stems.values()).items() if count > 1]
    if not shared:
        return
    alike = [name for name in cases if stems.get(name) == shared[0]]
    raise InputError(
        "groups-needed",
        f"The names look like slices of one patient ({_some(alike)})",
        "a patient on both sides of a split makes every score too good",
        "Say which files belong together with --groups, such as '^([^_-]+)'; '(.+)' if each is a patient of its own.",
    )


def _from_pattern(rule: str, cases: Sequence[str]) -> dict[str, str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise InputError(
            "groups-pattern", f"--groups {shown(rule)} is no regular expression", str(error), "Correct it."
        ) from error
    found = {}
    for name in cases:
        match = pattern.search(name)
        if match:
            found[name] = match[1] if pattern.groups and match[1] else match[0]
    return found


def _from_csv(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(
            "groups-file", f"{shown(path.name)} cannot be read", "", "Give a CSV file with the columns case and group."
        ) from error
    if rows and any(len(row) < 2 for row in rows):
        raise FileError(
            "groups-columns", f"{shown(path.name)} has rows of one column", "", "Give the columns case and group."
        )
    if rows and rows[0][0].lower() in ("case", "id", "name", "file"):
        rows = rows[1:]
    return {row[0]: row[1] for row in rows}


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(shown(name, 40) for name in names[:3])
    return listed + (", ..." if len(names) > 3 else "")
