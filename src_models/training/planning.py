"""Self-configuration: from the fingerprint of a data set to a plan, by nnU-Net 2.8.1's rules.

Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, Nature Methods
18, 203 (2021). The plans equal those that nnunetv2 makes of the same fingerprint; tests hold both beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_models.errors import InputError
from src_models.preprocessing.normalisation import normalisation_of
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.preprocessing.resampling import ANISOTROPY, Numbers, new_shape
from src_models.record import versions
from src_models.training.case import DataSet
from src_models.training.fingerprint import Fingerprint
from src_models.training.folds import Fold
from src_models.training.plan import Configuration, ConfigurationName, TrainingPlan
from src_models.training.targets import MemoryTarget, target_named
from src_models.training.topology import Topology, features_per_stage, map_sizes, topology
from src_models.weights.card import Label, foreground_values

LOWRES_SHARE = 0.25
"""A patch that covers less of the median image calls for a low resolution."""
_LOWRES_STEP = 1.03
_MASKED_BELOW = 3 / 4
# A picture is planned as a volume of one slice of this thickness, as nnU-Net reads it.
_FLAT = 999.0


@dataclass(frozen=True)
class Sized:
    """One network on one resolution: what fits into the memory.

    Attributes
    ----------
    spacing : tuple of float
        Per axis of the network.
    median_shape : tuple of float
        Of the resampled images.
    shape : Topology
        Levels and patch.
    batch : int
        Images per step.
    maps : int
        Sum of map sizes for one image.
    """

    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]
    shape: Topology
    batch: int
    maps: int

    @property
    def patch(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return self.shape.patch


def plan_data_set(
    data: DataSet,
    found: Fingerprint,
    *,
    target: str = "nnunet",
    gpu_gb: float | None = None,
    folds: Sequence[Fold] = (),
    modality: str = "",
) -> TrainingPlan:
    """The plan for a data set.

    Parameters
    ----------
    data : DataSet
        Names, channels and labels.
    found : Fingerprint
        Of it.
    target : str
        One of `targets.TARGETS`.
    gpu_gb : float, optional
        Memory of the card; the target's own by default.
    folds : sequence of Fold
        Kept in the plan.
    modality : str
        Such as "CT"; by default that of the channels where they have the name of one.

    Raises
    ------
    InputError
        Where the target is not known or the memory is too small for any network.
    """
    configurations = configure(found, data.channels, data.labels, data.head, data.ignore_label, target, gpu_gb)
    return TrainingPlan(
        code_version=versions()["napari-lsnet"],
        data_name=data.about.name or data.name,
        data_hash=found.data_hash,
        labels=data.labels,
        head=data.head,
        ignore_label=data.ignore_label,
        modality=modality or ("CT" if any(normalisation_of(name) == "ct" for name in data.channels) else ""),
        fingerprint={**found.model_dump(mode="json"), "target": target, "gpu_gb": gpu_gb},
        folds=tuple(fold.as_dict() for fold in folds),
        configurations=configurations,
    )


def configure(
    found: Fingerprint,
    channels: Sequence[str],
    labels: Sequence[Label],
    head: str = "softmax",
    ignore_label: int | None = None,
    target: str = "nnunet",
    gpu_gb: float | None = None,
) -> tuple[Configuration, ...]:
    """All configurations a data set calls for; the 3D ones first.

    Parameters
    ----------
    found : Fingerprint
        Of the data.
    channels : sequence of str
        Their names choose the normalisation.
    labels : sequence of Label
        Background among them under a softmax head.
    head, ignore_label, target, gpu_gb
        As in `plan_data_set`.
    """
    memory = target_named(target)
    flat = len(found.shapes[0]) == 2
    shapes = np.array([(1, *shape) if flat else shape for shape in found.shapes], dtype=np.float64)
    spacings = np.array([(_FLAT, *h) if flat else h for h in found.spacings])
    single = (shapes == 1).all(axis=0)
    if single.sum() == 1:
        # Volumes of one slice are pictures, whichever axis the slice is on and whatever its thickness.
        spacings[:, single] = _FLAT
    # nnU-Net counts the entries of its list of labels, background and ignore label among them.
    counted = len(labels) + int(head == "sigmoid") + int(ignore_label is not None)
    full = target_spacing(spacings, shapes)
    order = axis_order(full)
    medians = np.median([new_shape(n.astype(int), h, full) for n, h in zip(shapes, spacings, strict=True)], 0)[order]
    spacing = full[order]
    voxels = float(np.prod(medians)) * len(shapes)
    planner = _Planner(memory, gpu_gb, counted)
    made: list[tuple[ConfigurationName, Sized, bool]] = []
    if medians[0] != 1:
        made += _three_dimensional(planner, spacing, medians, voxels, len(shapes))
    made.append(("2d", planner.size(spacing[1:], medians[1:], voxels), True))
    build = _Builder(found, tuple(channels), tuple(labels), head, memory, order, flat)
    return tuple(build.configuration(*one) for one in made)


def target_spacing(spacings: NDArray[np.float64], shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spacing of full resolution: the median, but finer along an axis that is coarse in most cases only.

    Parameters
    ----------
    spacings, shapes : ndarray of shape (cases, axes)
        Shapes after the crop.
    """
    target = np.percentile(spacings, 50, 0)
    size = np.percentile(shapes, 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    finest_of_others = max(target[others])
    coarse = target[worst] > ANISOTROPY * finest_of_others
    few = size[worst] * ANISOTROPY < min(size[others])
    if coarse and few:
        wanted = np.percentile(spacings[:, worst], 10)
        target[worst] = wanted if wanted >= finest_of_others else finest_of_others + 1e-5
    return np.asarray(target)


def axis_order(spacing: Numbers) -> list[int]:
    """The coarsest axis first, then the rest in order."""
    first = int(np.argmax(spacing))
    return [first, *(axis for axis in range(len(spacing)) if axis != first)]


@dataclass(frozen=True)
class _Planner:
    """Finds the largest patch and batch for a memory target."""

    memory: MemoryTarget
    gpu_gb: float | None
    num_classes: int

    def size(self, spacing: Numbers, median: Numbers, voxels: float) -> Sized:
        """Patch, levels and batch for images of a median shape; `voxels` are those of the whole data set."""
        ndim = len(spacing)
        reference = self.memory.reference(ndim, self.gpu_gb)
        reference_batch = 12 if ndim == 2 else 2
        # The residual planners compare the sum as it is; in 3D, with a batch of 2, that is the same.
        per_pair = 1.0 if self.memory.residual else 2 / reference_batch
        shape = topology(spacing, start_patch(spacing, median))
        maps = self._maps(shape)
        while maps * per_pair > reference:
            shape = self._smaller(shape, spacing, median)
            maps = self._maps(shape)
        batch = round(reference / maps * reference_batch)
        most = round(voxels * self.memory.covered / float(np.prod(shape.patch, dtype=np.float64)))
        return Sized(tuple(spacing), tuple(median), shape, max(min(batch, most), 2), maps)

    def _maps(self, shape: Topology) -> int:
        features = features_per_stage(shape.stages, len(shape.patch))
        encoder, decoder = self.memory.encoder[: shape.stages], self.memory.decoder[: shape.stages - 1]
        return map_sizes(shape, features, encoder, decoder, self.num_classes, residual=self.memory.residual)

    def _smaller(self, shape: Topology, spacing: Numbers, median: Numbers) -> Topology:
        axis = int(np.argsort([n / m for n, m in zip(shape.patch, median, strict=True)])[-1])
        # Taking the old divisor away shows the new one; only that is then taken away, or valid sizes would be skipped:
        # 224 between 256 and 192, since 224 / 32 = 7.
        tried = list(shape.patch)
        tried[axis] -= shape.divisors[axis]
        divisor = topology(spacing, tried).divisors[axis]
        reduced = list(shape.patch)
        reduced[axis] -= divisor
        if min(reduced) < 1:
            raise InputError(
                "plan-memory",
                "No network fits into this memory",
                f"{self.gpu_gb or self.memory.gb:g} GB are allowed",
                "Allow more with --gpu-gb.",
            )
        return topology(spacing, reduced)


def start_patch(spacing: Numbers, median: Numbers) -> list[float]:
    """As many mm along every axis, 256 cubed voxels (2048 squared in 2D), and no more than the median image."""
    aspect = 1 / np.array(spacing)
    ndim = len(spacing)
    volume = 2048**2 if ndim == 2 else 256**3
    sizes = aspect * (volume / np.prod(aspect)) ** (1 / ndim)
    return [float(min(round(n), m)) for n, m in zip(sizes, median, strict=True)]


def _three_dimensional(
    planner: _Planner, spacing: NDArray[np.float64], medians: NDArray[np.float64], voxels: float, cases: int
) -> list[tuple[ConfigurationName, Sized, bool]]:
    full = planner.size(spacing, medians, voxels)
    low, low_spacing = None, spacing.copy()
    low_voxels, patch_voxels = float(np.prod(medians)), float(np.prod(full.patch))
    while patch_voxels / low_voxels < LOWRES_SHARE:
        # Axes that are much finer than the coarsest come first, until they are within a factor of two.
        finer = low_spacing.max() / low_spacing > 2
        low_spacing[finer if finer.any() else slice(None)] *= _LOWRES_STEP
        shape = spacing / low_spacing * medians
        low_voxels = float(np.prod(shape))
        low = planner.size(low_spacing, [float(round(n)) for n in shape], low_voxels * cases)
        patch_voxels = float(np.prod(low.patch))
    if low is None or float(np.prod(medians)) / low_voxels < 2:
        return [("3d_fullres", full, False)]
    return [("3d_fullres", full, True), ("3d_lowres", low, False), ("3d_cascade_fullres", full, True)]


@dataclass(frozen=True)
class _Builder:
    """Puts what was found into `Configuration`s."""

    found: Fingerprint
    channels: tuple[str, ...]
    labels: tuple[Label, ...]
    head: str
    memory: MemoryTarget
    order: list[int]
    flat: bool

    def configuration(self, name: ConfigurationName, sized: Sized, batch_dice: bool) -> Configuration:
        """One of the plan."""
        cascade = name == "3d_cascade_fullres"
        return Configuration(
            name=name,
            preprocessing=self._preprocessing(name, sized),
            network=self._network(sized, cascade),
            patch=sized.patch,
            batch=sized.batch,
            batch_dice=batch_dice,
            median_shape=tuple(max(1, round(n)) for n in sized.median_shape),
            previous="3d_lowres" if cascade else None,
            forecast={"maps": float(sized.maps)},
        )

    def _preprocessing(self, name: ConfigurationName, sized: Sized) -> Preprocessing:
        kinds = [normalisation_of(channel) for channel in self.channels]
        measured = [
            Channel(name=channel, normalisation=kind, statistics=known)
            for channel, kind, known in zip(self.channels, kinds, self.found.channels, strict=True)
        ]
        if len(sized.spacing) == 3:
            # From the network's order back to the image's.
            spacing = tuple(float(sized.spacing[self.order.index(axis)]) for axis in range(3))
        else:
            spacing = tuple(float(h) for h in sized.spacing)
        return Preprocessing(
            channels=tuple(measured),
            spacing=None if self.found.unit == "px" else spacing,
            unit="px" if self.found.unit == "px" else "mm",
            axis_order=None if self.flat else tuple(self.order),
            use_mask_for_norm=self.found.crop_ratio < _MASKED_BELOW and "zscore" in kinds,
            keep_slice_distance=name == "2d" and not self.flat,
        )

    def _network(self, sized: Sized, cascade: bool) -> dict[str, object]:
        stages = sized.shape.stages
        marked = len(foreground_values(self.labels))
        return {
            "name": self.memory.network,
            "in_channels": len(self.channels) + (marked if cascade else 0),
            "num_classes": len(self.labels),
            "ndim": len(sized.patch),
            "options": {
                "head": self.head,
                "n_stages": stages,
                "features_per_stage": list(features_per_stage(stages, len(sized.patch))),
                "kernel_sizes": [list(kernel) for kernel in sized.shape.kernels],
                "strides": [list(stride) for stride in sized.shape.strides],
                "n_blocks_per_stage" if self.memory.residual else "n_conv_per_stage": list(
                    self.memory.encoder[:stages]
                ),
                "n_conv_per_stage_decoder": list(self.memory.decoder[: stages - 1]),
                "deep_supervision": True,
            },
        }
