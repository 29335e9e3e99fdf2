"""A model on disk: weights as safetensors and their card as JSON, two files of one stem ``NAME@VERSION``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from pathlib import Path

from pydantic import ValidationError

from src_models.errors import FileError, InputError
from src_models.files.gate import shown, shown_name
from src_models.progress import Progress
from src_models.refusals import problem_of
from src_models.weights.card import CARD_SCHEMA, ModelCard

WEIGHTS_SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"
LARGEST_CARD = 8 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,29}\Z")
_CHUNK = 4 * 2**20


def stem_of(card: ModelCard) -> str:
    """The stem of a model's files, ``NAME@VERSION``.

    Raises
    ------
    InputError
        Where name or version could not be part of a file name on every system.
    """
    if not _NAME.match(card.name) or not _VERSION.match(card.version):
        raise InputError(
            "weights-name",
            f"{shown(card.name)!r}, version {shown(card.version, 20)!r}, is no name for a model",
            "names hold letters, digits and . _ + -",
            "Choose another name.",
        )
    return f"{card.name}@{card.version}"


def plain_name(text: str) -> str:
    """A name for a model out of any text: lower case, with nothing that a file name could not hold."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("._-").lower()
    return plain[:100] or "model"


def weights_path(path: Path) -> Path:
    """The weights file of a pair, from either file or from the stem; stems may hold points."""
    return _sibling(path, WEIGHTS_SUFFIX)


def card_path(path: Path) -> Path:
    """The card of a pair, likewise."""
    return _sibling(path, CARD_SUFFIX)


def _sibling(path: Path, suffix: str) -> Path:
    name = path.name
    for known in (WEIGHTS_SUFFIX, CARD_SUFFIX):
        if name.lower().endswith(known):
            name = name[: -len(known)]
            break
    return path.with_name(name + suffix)


def read_card(path: Path) -> ModelCard:
    """The card of a model.

    Parameters
    ----------
    path : Path
        Either file of the pair.

    Raises
    ------
    FileError
        Where it is missing, damaged, or of a format that this version does not know.
    """
    file = card_path(path)
    name = shown_name(file)
    if not file.is_file():
        raise FileError(
            "weights-no-card",
            f"{shown_name(weights_path(path))} has no card",
            f"{name} is not beside it",
            "Copy both files, or import the weights with lsnet weights import.",
        )
    try:
        if file.stat().st_size > LARGEST_CARD:
            raise _no_card(name, "it is larger than 8 MB")
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise _no_card(name, (error.strerror or "it cannot be opened").lower()) from error
    except (ValueError, RecursionError) as error:
        raise _no_card(name, "it is cut short or no JSON") from error
    return parse_card(content, name)


def parse_card(content: object, name: str) -> ModelCard:
    """A card from plain JSON.

    Raises
    ------
    FileError
        Where it is of a newer format, or holds what a card does not.
    """
    number = content.get("schema_number", CARD_SCHEMA) if isinstance(content, dict) else None
    if not isinstance(number, int) or number < 1:
        raise _no_card(name, "its format has no number")
    if number > CARD_SCHEMA:
        raise FileError(
            "weights-schema",
            f"{name} was written by a newer version of this program",
            f"its card format is {number}, this version reads up to {CARD_SCHEMA}",
            "Update napari-lsnet.",
        )
    try:
        return ModelCard.model_validate(content)
    except (ValidationError, RecursionError) as error:
        why = "its content is nested too deeply"
        if isinstance(error, ValidationError):
            why = problem_of(error).sentence
        raise _no_card(name, why) from error


def card_text(card: ModelCard) -> bytes:
    """The card as it is stored."""
    return (json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def check_size(path: Path, card: ModelCard) -> None:
    """The quick look: the weights are there, and as long as the card says.

    Raises
    ------
    FileError
        Where they are not.
    """
    file = weights_path(path)
    name = shown_name(file)
    if not file.is_file():
        raise FileError("weights-missing", f"{name} was not found", "", "Check the name and the folder.")
    if not card.sha256 or not card.size_bytes:
        raise FileError(
            "weights-no-hash", f"The card of {name} gives no hash", "", "Import the weights again, or use another copy."
        )
    size = file.stat().st_size
    if size != card.size_bytes:
        told = "cut short" if size < card.size_bytes else "too long"
        raise FileError(
            "weights-length",
            f"{name} is {told}",
            f"it has {size} bytes, its card says {card.size_bytes}",
            "Download or copy it again.",
        )


def read_weights(path: Path, card: ModelCard) -> bytes:
    """The bytes of the weights; what is hashed is what is used, whatever happens to the file meanwhile.

    Raises
    ------
    FileError
        Where length or hash are not those of the card, or the file cannot be read.
    """
    check_size(path, card)
    file = weights_path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise FileError("weights-access", f"{shown_name(file)} cannot be opened", why, "Check its rights.") from error
    check_hash(hashlib.sha256(content).hexdigest(), card.sha256, shown_name(file))
    return content


def check_hash(found: str, expected: str, name: str) -> None:
    """Refuse a file with another hash than it must have.

    Raises
    ------
    FileError
        With the beginnings of both.
    """
    if found != expected.lower():
        raise FileError(
            "weights-hash",
            f"{name} is not the file that it should be",
            f"its SHA-256 begins with {found[:12]}, not with {shown(expected, 12)}",
            "Do not use it; download or copy it again.",
        )


def hash_file(path: Path) -> Generator[Progress, None, str]:
    """SHA-256 of a file, with progress.

    Raises
    ------
    FileError
        Where it cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    try:
        size = max(path.stat().st_size, 1)
        with path.open("rb") as file:
            while part := file.read(_CHUNK):
                digest.update(part)
                done += len(part)
                yield Progress(phase="verify", fraction=min(done / size, 1.0), message=f"verifying {shown_name(path)}")
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise FileError("weights-access", f"{shown_name(path)} cannot be opened", why, "Check its rights.") from error
    return digest.hexdigest()


def _no_card(name: str, why: str) -> FileError:
    return FileError("weights-card", f"{name} is not the card of a model", why, "Use an undamaged copy.")
