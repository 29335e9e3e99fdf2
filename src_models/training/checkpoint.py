"""Where a training stands, in one file that is whole or not there: weights, optimiser, and a state in plain JSON.

It is a safetensors file; the state lies in its header, so that nothing is unpickled. A new one is written beside the
last, synchronised with the disk and put in its place in one step; the one before is kept. Going on from it gives the
weights that the training would have had without a break, bit for bit on the processor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from src_models.errors import FileError
from src_models.files.gate import shown_name
from src_models.files.saving import save_whole

SCHEMA = 1
CURRENT, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint-previous.safetensors", "checkpoint-best.safetensors"
_STATE = "lsnet_training"
_WEIGHTS, _OPTIMISER = "network.", "optimiser."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a training stands.

    Attributes
    ----------
    network : mapping of str to Tensor
        State of the network.
    optimiser : mapping
        State of the optimiser, as torch gives it; empty where only weights are kept.
    state : mapping
        Plain values: step, seed, hashes, history.
    """

    network: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    state: Mapping[str, Any]

    @classmethod
    def of(cls, network: nn.Module, optimiser: torch.optim.Optimizer | None, state: Mapping[str, Any]) -> Checkpoint:
        """The present state, not copied."""
        return cls(network.state_dict(), {} if optimiser is None else optimiser.state_dict(), state)


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, keep_previous: bool = True) -> None:
    """Write a checkpoint; the one that is there stays until the new one is complete, then becomes the previous one.

    Raises
    ------
    SaveError
        Where it cannot be written, as on a full disk; the last good one is untouched.
    """
    content = _to_bytes(checkpoint)

    def write(file: IO[bytes]) -> None:
        file.write(content)

    def verify(part: Path) -> bool:
        # what was written is compared by its size: reading it back would come from memory, not from the disk
        if part.stat().st_size != len(content):
            return False
        if keep_previous and path.exists():
            also_named(path, path.with_name(PREVIOUS))
        return True

    save_whole(path, write, verify, overwrite=True)


def also_named(path: Path, other: Path) -> None:
    """Give a file a second name, in one step; at no moment is it without the first."""
    link = other.with_name("." + other.name + ".part")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        # a file system without links, such as FAT
        import shutil

        shutil.copyfile(path, link)
    link.replace(other)


def _to_bytes(checkpoint: Checkpoint) -> bytes:
    from safetensors.torch import save

    tensors = {_WEIGHTS + name: _plain(value) for name, value in checkpoint.network.items()}
    places: dict[str, dict[str, Any]] = {}
    for number, entries in checkpoint.optimiser.get("state", {}).items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMISER}{number}.{key}"] = _plain(value)
            else:
                places.setdefault(str(number), {})[key] = value
    header = {
        "schema": SCHEMA,
        "state": dict(checkpoint.state),
        "optimiser": {"groups": checkpoint.optimiser.get("param_groups", []), "values": places},
    }
    return bytes(save(tensors, {_STATE: json.dumps(header)}))


def _plain(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    FileError
        Where it is missing, damaged, or none of this program.
    """
    from safetensors import SafetensorError, safe_open

    name = shown_name(path)
    hint = "Begin the training again in another --out." if path.name in (CURRENT, PREVIOUS) else "Use another copy."
    if not path.is_file():
        raise FileError("checkpoint-missing", f"{name} was not found", "", "Train first.")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[_STATE])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FileError("checkpoint-broken", f"{name} is not a checkpoint of a training", "", hint) from error
    if header.get("schema") != SCHEMA:
        raise FileError("checkpoint-schema", f"{name} was written by another version", "", "Update napari-lsnet.")
    return Checkpoint(
        {key.removeprefix(_WEIGHTS): value for key, value in tensors.items() if key.startswith(_WEIGHTS)},
        _optimiser(header["optimiser"], tensors),
        header["state"],
    )


def _optimiser(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(k): dict(values) for k, values in header["values"].items()}
    for key, value in tensors.items():
        if key.startswith(_OPTIMISER):
            number, _, entry = key.removeprefix(_OPTIMISER).partition(".")
            state.setdefault(int(number), {})[entry] = value
    return {"state": state, "param_groups": header["groups"]} if header["groups"] else {}
