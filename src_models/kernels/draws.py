"""Random numbers that depend on what they are for, not on how the work is dealt out."""

from __future__ import annotations

import zlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A Philox generator of its own for each key, such as (seed, purpose, block)."""
    numbers = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))
