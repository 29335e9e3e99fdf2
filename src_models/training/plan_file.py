"""`plan.json`: written by the planner, edited by anyone, checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from src_models.errors import FileError, InputError
from src_models.files.gate import check_file, shown
from src_models.files.saving import save_whole
from src_models.refusals import problem_of
from src_models.training.fingerprint import Fingerprint
from src_models.training.plan import PLAN_SCHEMA, Configuration, TrainingPlan
from src_models.training.planning import configure
from src_models.training.targets import TARGETS

_MAX_BYTES = 64 * 2**20


def write_plan(path: Path, plan: TrainingPlan, *, overwrite: bool = True) -> None:
    """Store a plan as JSON.

    Raises
    ------
    SaveError
        Where it cannot be written whole.
    """
    text = plan.model_dump_json(indent=1).encode()
    save_whole(path, lambda file: _write(file, text), lambda part: part.read_bytes() == text, overwrite=overwrite)


def read_plan(path: Path) -> tuple[TrainingPlan, tuple[str, ...]]:
    """A plan from its file, checked, and what was edited in it, in words.

    Raises
    ------
    FileError, InputError
        Where it is no plan, has unknown keys, or numbers that cannot be trained with.
    """
    if not path.is_file():
        raise FileError("plan-unreadable", f"{shown(path.name)} cannot be read", "there is no such file", "")
    if check_file(path) > _MAX_BYTES:
        raise _no_plan(path, "it is larger than 64 MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _no_plan(path, "it is no JSON") from error
    if not isinstance(content, dict) or content.get("schema_number", PLAN_SCHEMA) != PLAN_SCHEMA:
        raise _no_plan(path, "its schema is not known to this version")
    try:
        plan = TrainingPlan.model_validate(content)
    except ValidationError as error:
        raise InputError(
            "plan-value",
            f"{shown(path.name)} is not a plan",
            problem_of(error).sentence,
            "Correct it, or make a new one.",
        ) from error
    check_plan(plan)
    return plan, changes(plan)


def plan_hash(plan: TrainingPlan) -> str:
    """SHA-256 of a plan: checkpoints, cards and folds of one training agree in it.

    What changes the first stage of a cascade counts only where the plan has one.
    """
    cascade = any(one.previous is not None for one in plan.configurations)
    left_out = None if cascade else {"augmentation": {"morphology", "dropped_components"}}
    return hashlib.sha256(plan.model_dump_json(exclude=left_out).encode()).hexdigest()


def departure(path: Path, plan: TrainingPlan) -> str:
    """In what a plan departs from that of a file, in words: the first number, and how many others."""
    try:
        before = TrainingPlan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return ""
    found = _differing(before.model_dump(mode="json"), plan.model_dump(mode="json"))
    if not found:
        return ""
    (name, old, new), others = found[0], len(found) - 1
    more = f", and {others} more differ{'s' if others == 1 else ''}" if others else ""
    return f"its {name} is {_short(old)}, not {_short(new)}{more}"


def check_plan(plan: TrainingPlan) -> None:
    """Refuse numbers that no network can be trained with.

    Raises
    ------
    InputError
        Naming the configuration and the number.
    """
    for one in plan.configurations:
        ndim = int(one.network.get("ndim", len(one.patch)))
        if len(one.patch) != ndim:
            raise _wrong(one, f"its patch has {len(one.patch)} axes", f"the network {ndim}")
        strides = one.network.get("options", {}).get("strides")
        if isinstance(strides, Sequence):
            divisors = [prod(_per_axis(step, ndim)[axis] for step in strides) for axis in range(ndim)]
            for axis, (n, divisor) in enumerate(zip(one.patch, divisors, strict=True)):
                if n % divisor:
                    why = f"the network halves that axis until {divisor} voxels are one"
                    near = f"Use {n - n % divisor or divisor} or {n + divisor - n % divisor}."
                    raise _wrong(one, f"patch {n} along axis {axis} is no multiple of {divisor}", why, near)
        if one.previous is not None and one.previous not in {other.name for other in plan.configurations}:
            raise _wrong(one, f"it builds on {one.previous}", "the plan has no such configuration")


def changes(plan: TrainingPlan) -> tuple[str, ...]:
    """Where a plan departs from what its own fingerprint calls for, in words."""
    known = dict(plan.fingerprint)
    target, gpu_gb = known.pop("target", None), known.pop("gpu_gb", None)
    try:
        found = Fingerprint.model_validate(known)
    except ValidationError:
        return ()
    if target not in TARGETS or not plan.configurations:
        return ()
    channels = [channel.name for channel in plan.configurations[0].preprocessing.channels]
    if len(channels) != len(found.channels):
        return ()
    planned = configure(found, channels, plan.labels, plan.head, plan.ignore_label, target, gpu_gb)
    said = []
    for one in plan.configurations:
        before = next((other for other in planned if other.name == one.name), None)
        if before is None:
            said.append(f"{one.name} was added.")
        else:
            said += [
                f"{one.name}: {key} is {_short(new)}, planned was {_short(old)}."
                for key, old, new in _differing(before.model_dump(mode="json"), one.model_dump(mode="json"))
            ]
    gone = [other.name for other in planned if other.name not in {one.name for one in plan.configurations}]
    return (*said, *(f"{name} was taken out." for name in gone))


def _differing(old: Any, new: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            found
            for key in keys
            for found in _differing(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if old == new else [(name, old, new)]


def _short(value: Any) -> str:
    return shown(json.dumps(value), 60)


def _per_axis(step: Any, ndim: int) -> Sequence[int]:
    return [int(part) for part in step] if isinstance(step, Sequence) else [int(step)] * ndim


def _wrong(one: Configuration, what: str, why: str, next_step: str = "Correct the plan.") -> InputError:
    return InputError("plan-numbers", f"{one.name}: {what}", why, next_step)


def _no_plan(path: Path, why: str) -> FileError:
    return FileError("plan-file", f"{shown(path.name)} is no plan", why, "Make one with `lsnet train --plan-only`.")


def _write(file: IO[bytes], text: bytes) -> None:
    file.write(text)
