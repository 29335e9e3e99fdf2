"""Every setting of a kernel analysis, defined once: form, command line, Python and record read it from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Preset = Literal["paper-6", "paper-11", "extended"]
Law = Literal["gaussian", "uniform", "permuted", "init"]
Normalisation = Literal["raw", "unit", "unit+sign"]
Group = Literal["basic", "advanced", "run"]


def _setting(default: Any, title: str, description: str, group: Group, *, unit: str = "", **bounds: Any) -> Any:
    hints: dict[str, Any] = {"group": group, "unit": unit}
    if "soft" in bounds:
        hints["soft"] = list(bounds.pop("soft"))
    return Field(default, title=title, description=description, json_schema_extra=hints, **bounds)


class KernelAnalysisParameters(BaseModel):
    """What is asked about the kernels of a network, and against which chance."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Preset = _setting(
        "paper-6",
        "Known kernels",
        "paper-6: mean, Laplacian, Gaussian, edge, identity, sharpen. paper-11: also other Laplacians and edges of all "
        "directions. extended: also differences, Prewitt, Scharr and more.",
        "basic",
    )
    n: int | None = _setting(
        None,
        "Grid of the spectra",
        "Points per axis. Empty means 64 in 2D and 16 in 3D. Labels hardly change above 32.",
        "basic",
        unit="voxels",
        soft=(8, 128),
        ge=3,
        le=512,
    )
    threshold: float = _setting(
        0.10,
        "Largest distance of a label",
        "Mean difference of two normalised spectra. 0.10 is the paper's; smaller leaves more kernels without a label.",
        "basic",
        soft=(0.01, 0.2),
        ge=0,
        le=1,
    )
    null: Law = _setting(
        "gaussian",
        "Chance",
        "The random kernels that each count is compared with: gaussian, uniform (what most networks start from), "
        "permuted (the kernels of the layer with their entries in another order), or init (the same network before "
        "its training, built again).",
        "basic",
    )
    null_draws: int = _setting(
        1000,
        "Random kernels",
        "How many are drawn. 1000 serve to look around; 100000 are for reports, and are kept on disk.",
        "basic",
        ge=100,
        le=1_000_000,
    )
    scope: Literal["layer", "network"] = _setting(
        "layer", "Principal components", "Of each layer apart, or of all layers together.", "basic"
    )
    normalisation: Normalisation = _setting(
        "raw",
        "Scale before the components",
        "raw: as they are, known kernels at the median norm of the learned. unit: every kernel of norm 1. unit+sign: "
        "also a kernel and its negative are one.",
        "basic",
    )
    tolerance: float = _setting(
        0.05,
        "Moment that counts as zero",
        "As a share of what the moment would be if all entries had the same sign.",
        "advanced",
        soft=(0.001, 0.3),
        gt=0,
        lt=1,
    )
    spacing: tuple[float, ...] | None = _setting(
        None,
        "Voxel size",
        "Per axis, in array order. Empty means that kernels are read in index units: a network does not know the "
        "spacing of its training data.",
        "advanced",
        unit="mm",
    )
    merge: bool = _setting(
        True,
        "One label for equal spectra",
        "Known kernels that no spectrum can tell apart are one label. Off only to repeat the paper's list of 11.",
        "advanced",
    )
    fold_norm: bool = _setting(
        False,
        "Multiply by the normalisation's gain",
        "Kernels as they act after the normalisation behind (or before) them. Labels do not change, norms do.",
        "advanced",
    )
    clusters: int = _setting(3, "Clusters", "Of k-means in each layer.", "advanced", ge=2, le=12)
    cluster_draws: int = _setting(
        20,
        "Random clouds for the clusters",
        "Gaussian clouds of the layer's covariance; a cluster is claimed only beside them. 0 leaves them out.",
        "advanced",
        ge=0,
        le=1000,
    )
    operators: bool = _setting(
        False,
        "Spectrum of whole layers",
        "Norm, condition and effective rank of each layer as one operator. Takes long for wide layers.",
        "advanced",
    )
    protocol: Literal["default", "paper"] = _setting(
        "default",
        "Protocol",
        "paper: paper-6, the input size of each layer as grid, 0.10, components of the whole network, 3 clusters, raw.",
        "advanced",
    )
    image: tuple[int, ...] | None = _setting(
        None,
        "Image size of the protocol",
        "Per axis; from it the input size of each layer follows. Empty means 256 in 2D and 64 in 3D.",
        "advanced",
        unit="voxels",
    )
    device: Literal["cpu"] = _setting("cpu", "Device", "The analysis runs on the processor.", "run")
    threads: int | None = _setting(None, "Threads", "Empty means one per core, 8 at most.", "run", ge=1, le=64)
    seed: int = _setting(0, "Seed", "Of all random numbers; results do not depend on the threads.", "run", ge=0)

    @field_validator("spacing")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (len(value) not in (2, 3) or min(value) <= 0):
            raise ValueError("2 or 3 numbers above 0")
        return value

    @field_validator("image")
    @classmethod
    def _sized(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (2, 3) or min(value) < 16):
            raise ValueError("2 or 3 numbers of at least 16")
        return value

    def resolved(self) -> KernelAnalysisParameters:
        """With everything that the protocol fixes."""
        if self.protocol == "default":
            return self
        fixed = {"preset": "paper-6", "threshold": 0.10, "scope": "network", "clusters": 3, "normalisation": "raw"}
        return self.model_copy(update=fixed)

    def grid(self, ndim: int) -> tuple[int, ...]:
        """The grid of the spectra of layers with that many axes."""
        return (self.n or (64 if ndim == 2 else 16),) * ndim
