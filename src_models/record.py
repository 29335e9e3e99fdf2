"""What was done, so that it can be done again: parameters, changes while it ran, drawn inputs, hashes, versions.

A record holds no patient data: no names, no paths outside its `local` block, no free text from files. It is written
whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import platform
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from src_models.errors import FileError, SaveError

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis or treatment."
SCHEMA = 1
SUFFIX = ".lsnet.json"
LARGEST_ARRAY = 8 * 2**30
LARGEST_FILE = 512 * 2**20


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
        raw = np.packbits(plain).tobytes() if plain.dtype.kind == "b" else plain.tobytes()
        packed = base64.b64encode(zlib.compress(raw, 6)).decode("ascii")
        return cls(shape=plain.shape, dtype=plain.dtype.str, sha256=content_hash(plain), data=packed)

    def array(self) -> NDArray[Any]:
        """The array as it was.

        Raises
        ------
        FileError
            Where the stored content does not fit its own shape or hash.
        """
        broken = FileError(
            "record-array", "The record is damaged", "a drawn input does not fit its hash", "Use an undamaged copy."
        )
        try:
            dtype = np.dtype(self.dtype)
        except (TypeError, ValueError) as error:
            raise broken from error
        if dtype.kind not in "buif" or any(n < 0 for n in self.shape):
            raise broken
        count = math.prod(self.shape)
        one_bit = dtype.kind == "b"
        expected = (count + 7) // 8 if one_bit else count * dtype.itemsize
        if expected > LARGEST_ARRAY:
            raise broken
        try:
            stream = zlib.decompressobj()
            # one byte more than declared is enough to see that the content is longer
            raw = stream.decompress(base64.b64decode(self.data, validate=True), expected + 1)
        except (ValueError, zlib.error) as error:
            raise broken from error
        if len(raw) != expected:
            raise broken
        flat: NDArray[Any]
        if one_bit:
            flat = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool)
        else:
            flat = np.frombuffer(raw, dtype).copy()
        restored = flat.reshape(self.shape)
        if content_hash(restored) != self.sha256:
            raise broken
        return restored


class Change(BaseModel):
    """Something that was changed while a run was under way; it holds from the step after `step`.

    `label` names the label whose parameters changed, where there are several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    label: int | None = None
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
        hint = f"Choose a file that ends in {SUFFIX}."
        if not path.is_file():
            raise FileError("record-missing", f"The record {name} was not found", "", hint)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise FileError("record-size", f"{name} is not read", "it is larger than 512 MB", hint)
            text = path.read_bytes()
        except OSError as error:
            raise FileError("record-unreadable", f"{name} cannot be read", error.strerror or "", hint) from error
        try:
            content = json.loads(text)
            number = content.get("schema_number") if isinstance(content, dict) else None
            if isinstance(number, int) and number > SCHEMA:
                raise FileError(
                    "record-newer",
                    f"{name} was written by a newer version of this program",
                    f"its record format is {number}, this version reads up to {SCHEMA}",
                    "Update napari-lsnet.",
                )
            return cls.model_validate(content)
        except (ValueError, RecursionError) as error:
            raise FileError("record-broken", f"{name} is not a record of this program", "", hint) from error


def record_path(saved: Path) -> Path:
    """Where the record of a saved file lies: ``liver.nii.gz`` has ``liver.lsnet.json`` beside it."""
    name = saved.name
    for double in (".nii.gz", ".seg.nrrd", ".ome.tif", ".ome.tiff"):
        if name.lower().endswith(double) and len(name) > len(double):
            return saved.with_name(name[: -len(double)] + SUFFIX)
    return saved.with_name(saved.stem + SUFFIX)


def write_record(path: Path, record: Record, *, with_local: bool = True) -> None:
    """Write a record as a whole or not at all; what was there before stays until the new one is complete.

    Parameters
    ----------
    path : Path
        The file, by custom from `record_path`.
    record : Record
        What to write.
    with_local : bool
        Whether to keep the block that belongs to this computer; leave it out of everything that is given away.

    Raises
    ------
    SaveError
        Where the folder is missing, full or may not be written.
    """
    partial = path.with_name(f".{uuid4().hex}.part")
    try:
        try:
            with partial.open("x", encoding="utf-8", newline="\n") as file:
                file.write(record.to_json(with_local=with_local))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            "record-not-saved",
            f"The record {path.name} was not saved",
            error.strerror or "the folder cannot be written",
            "Choose another folder, or free some space.",
        ) from error


def content_hash(array: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and bytes of an array in C order."""
    plain = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{plain.dtype.str}{plain.shape}".encode())
    digest.update(plain.reshape(-1).view(np.uint8).data)
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
