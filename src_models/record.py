"""What was done, so that it can be done again: parameters, changes while it ran, drawn inputs, hashes, versions.

A record holds no patient data: no names, no paths outside its `local` block, no free text from files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import FileError

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or treatment."
SCHEMA = 1


class StoredArray(BaseModel):
    """An array inside a record, lossless: zlib over the bytes, in base64, with a hash of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    data: str

    @classmethod
    def of(cls, array: NDArray[Any]) -> StoredArray:
        """Store an array; booleans take one bit each before compression."""
        plain = np.ascontiguousarray(array)
        raw = np.packbits(plain).tobytes() if plain.dtype == bool else plain.tobytes()
        packed = base64.b64encode(zlib.compress(raw, 6)).decode("ascii")
        return cls(shape=plain.shape, dtype=plain.dtype.str, sha256=content_hash(plain), data=packed)

    def array(self) -> NDArray[Any]:
        """The array as it was.

        Raises
        ------
        FileError
            Where the stored content does not fit its own shape or hash.
        """
        dtype = np.dtype(self.dtype)
        count = int(np.prod([int(n) for n in self.shape], dtype=object)) if self.shape else 1
        expected = (count + 7) // 8 if dtype == bool else count * dtype.itemsize
        broken = FileError(
            "record-array", "The record is damaged", "a drawn input does not fit its hash", "Use an undamaged copy."
        )
        if dtype.hasobject or expected > 8 * 2**30 or any(n < 0 for n in self.shape):
            raise broken
        try:
            stream = zlib.decompressobj()
            raw = stream.decompress(base64.b64decode(self.data, validate=True), expected + 1)
        except (ValueError, zlib.error) as error:
            raise broken from error
        if len(raw) != expected:
            raise broken
        if dtype == bool:
            flat: NDArray[Any] = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool)
        else:
            flat = np.frombuffer(raw, dtype).copy()
        restored = flat.reshape(self.shape)
        if content_hash(restored) != self.sha256:
            raise broken
        return restored


class Change(BaseModel):
    """Something that was changed while a run was under way; it holds from the step after `step`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    parameters: dict[str, Any] | None = None
    walls: StoredArray | None = None
    pins: StoredArray | None = None


class Source(BaseModel):
    """The image a result was made from, by content.

    `region` are the [start, stop] per axis of the array as read (an integer alone for one slice or time point);
    None means all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_hash: str
    shape: tuple[int, ...]
    dtype: str
    spacing: tuple[float, ...]
    index_to_patient: list[list[float]] | None = None
    region: list[int | tuple[int, int]] | None = None


class Record(BaseModel):
    """How a result was made. Stored beside saved files as ``NAME.lsnet.json`` and in ``layer.metadata["lsnet"]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_number: int = SCHEMA
    task: str
    status: str
    parameters: dict[str, Any]
    changes: tuple[Change, ...] = ()
    inputs: dict[str, Any] = Field(default_factory=dict)
    source: Source | None = None
    result: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    seed: int | None = None
    duration_s: float = 0.0
    notes: tuple[str, ...] = ()
    research_use: str = RESEARCH_USE
    local: dict[str, str] = Field(default_factory=dict)

    def to_json(self, *, with_local: bool = True) -> str:
        """The record as text; `with_local=False` leaves out everything that belongs to one computer."""
        content = self.model_dump(mode="json", exclude=None if with_local else {"local"})
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record file.

        Raises
        ------
        FileError
            Where it is missing, too large, or not a record.
        """
        name = path.name
        hint = "Choose a file that ends in .lsnet.json."
        if not path.is_file():
            raise FileError("record-missing", f"The record {name} was not found", "", hint)
        if path.stat().st_size > 512 * 2**20:
            raise FileError("record-size", f"{name} is not read", "it is larger than 512 MB", hint)
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise FileError("record-broken", f"{name} is not a record of this program", "", hint) from error


def content_hash(array: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and bytes of an array in C order."""
    plain = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode())
    digest.update(memoryview(plain).cast("B") if plain.size else b"")
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of this package, Python and those named."""
    found = {"python": platform.python_version()}
    for name in ("napari-lsnet", "numpy", *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
