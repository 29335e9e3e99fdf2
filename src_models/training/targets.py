"""How large a network may be planned: nnU-Net's reference values, which its authors measured on their cards."""

from __future__ import annotations

from dataclasses import dataclass

from src_models.errors import InputError

_MANY = 14


@dataclass(frozen=True)
class MemoryTarget:
    """What the sum of map sizes (`topology.map_sizes`) is compared with.

    Attributes
    ----------
    network : str
        In the zoo.
    maps_3d, maps_2d : float
        Allowed sum at the reference batch of 2 in 3D and 12 in 2D.
    gb : float
        Memory of the card they were measured on; other cards scale them in proportion.
    covered : float
        Largest share of the data set's voxels in one batch.
    encoder, decoder : tuple of int
        Convolutions, or residual blocks, per stage.
    """

    network: str
    maps_3d: float
    maps_2d: float
    gb: float
    covered: float
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    @property
    def residual(self) -> bool:
        """Whether the encoder is residual."""
        return self.network == "nnunet-residual"

    def reference(self, ndim: int, gpu_gb: float | None) -> float:
        """The allowed sum of map sizes for a card of this memory."""
        return (self.maps_2d if ndim == 2 else self.maps_3d) * ((gpu_gb or self.gb) / self.gb)


_BLOCKS = (1, 3, 4, *(6,) * (_MANY - 3))
TARGETS: dict[str, MemoryTarget] = {
    "nnunet": MemoryTarget("nnunet", 5.6e8, 8.5e7, 8, 0.05, (2,) * _MANY, (2,) * _MANY),
    "residual": MemoryTarget("nnunet-residual", 6.8e8, 1.35e8, 8, 0.05, _BLOCKS, (1,) * _MANY),
    "residual-m": MemoryTarget("nnunet-residual", 6.8e8, 1.35e8, 8, 1.0, _BLOCKS, (1,) * _MANY),
    "residual-l": MemoryTarget("nnunet-residual", 2.1e9, 3.8e8, 24, 1.0, _BLOCKS, (1,) * _MANY),
    "residual-xl": MemoryTarget("nnunet-residual", 3.6e9, 5.6e8, 40, 1.0, _BLOCKS, (1,) * _MANY),
}
"""By name: nnU-Net's default, and its residual encoders for cards of 8, 24 and 40 GB."""


def target_named(name: str) -> MemoryTarget:
    """One of `TARGETS`.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    if name not in TARGETS:
        raise InputError("plan-target", f"There is no planner named {name}", "", f"Choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]
