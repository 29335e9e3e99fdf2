"""The models that can be downloaded: where they lie, how long they are, and the hash that makes them trusted."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from src_models.errors import FileError
from src_models.refusals import problem_of
from src_models.weights.card import ModelCard

MANIFEST = Path(__file__).with_name("manifest.json")


class Offer(BaseModel):
    """One model for download. Its card stands here, so that what is downloaded is nothing but checked numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(min_length=1, description="Mirrors, tried in turn.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)
    licence: str = Field(min_length=1)
    card: ModelCard

    @property
    def name(self) -> str:
        """Of the model."""
        return self.card.name

    @property
    def version(self) -> str:
        """Of the model."""
        return self.card.version

    @property
    def task(self) -> str:
        """Of the model."""
        return self.card.task

    @model_validator(mode="after")
    def _card_fits(self) -> Offer:
        if (self.card.sha256, self.card.size_bytes) != (self.sha256, self.size_bytes):
            raise ValueError("the hash and size of the card are not those of the file")
        if self.card.weights_licence != self.licence:
            raise ValueError("the licence is not that of the card")
        if any(not url.startswith(("https://", "http://127.0.0.1", "http://localhost")) for url in self.urls):
            raise ValueError("models are downloaded over https")
        return self


class Manifest(BaseModel):
    """All of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_number: int = 1
    models: tuple[Offer, ...] = ()


@cache
def read_manifest(path: Path = MANIFEST) -> Manifest:
    """The manifest in a file; the one of the package by default.

    Raises
    ------
    FileError
        Where it is not one: an entry without a hash is an error, never a warning.
    """
    try:
        content: Any = json.loads(path.read_bytes())
        return Manifest.model_validate(content)
    except (OSError, ValueError, RecursionError) as error:
        why = ""
        if isinstance(error, ValidationError):
            why = problem_of(error).sentence
        raise FileError(
            "manifest", f"{path.name} is not a list of models", why, "Install napari-lsnet again."
        ) from error
