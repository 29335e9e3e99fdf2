"""Makes the plans of `tests/data/plans` with nnunetv2 itself.

    python tests/peers/make_plans.py OUT [NAME=FOLDER ...]

It needs an environment of its own with nnunetv2 2.8.1. Without folders it plans the fingerprints below. A folder of
`images/` and `labels/` is linked into nnU-Net's layout and its fingerprint is taken by nnunetv2; what is kept of it are
sizes, spacings and intensities, no voxels.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ISO = [1.0, 1.0, 1.0]


def fingerprints() -> dict[str, dict[str, Any]]:
    """Name to what nnU-Net knows of a data set."""
    rng = np.random.default_rng(7)
    mixed_shapes = [[int(n) for n in rng.integers((60, 200, 180), (140, 330, 300))] for _ in range(21)]
    mixed_spacings = [[float(h) for h in rng.uniform((1.0, 0.6, 0.6), (6.0, 0.9, 0.9))] for _ in range(21)]
    heart = [[h, 1.5, 1.5] for h in (5.0, 5.0, 6.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0)]
    return {
        "isotropic": _same([128, 128, 128], ISO, 100),
        "five_to_one": _same([40, 256, 256], [5.0, 1.0, 1.0], 100),
        "knee": _same([64, 192, 160], [2.5, 0.8, 0.8], 60),
        "exactly_three": _same([40, 300, 300], [3.0, 1.0, 1.0], 50),
        "exactly_two": _same([80, 160, 160], [2.0, 1.0, 1.0], 50),
        "abdomen": _same([482, 512, 512], [1.0, 0.77, 0.77], 131, channels={"0": "CT"}),
        "barely_too_large": _same([205, 205, 205], ISO, 50),
        "thin": _same([6, 200, 180], [4.0, 1.0, 1.0], 30),
        "thin_middle": _same([120, 5, 130], ISO, 30),
        "coarse_in_the_last_axis": _same([200, 180, 40], [0.8, 0.8, 4.0], 40),
        "two_channels_one_cropped": _same([150, 170, 140], ISO, 484, channels={"0": "T1", "1": "CT"}, crop=0.4),
        "heart": _listed([[10, 240, 220]] * 10, heart),
        "mixed": _listed(mixed_shapes, mixed_spacings),
        "half_medians": _listed([[35, 50, 35], [36, 51, 37]], [ISO, ISO]),
        "few_cases": _same([96, 96, 96], ISO, 3),
        "pictures": _same([1, 256, 256], [999.0, 1.0, 1.0], 456),
        "large_pictures": _same([1, 1024, 1360], [999.0, 1.0, 1.0], 40, channels={"0": "R", "1": "G", "2": "B"}),
        "regions": _same(
            [155, 170, 138], ISO, 1000, labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}
        ),
    }


def _same(shape: list[int], spacing: list[float], cases: int, **more: Any) -> dict[str, Any]:
    return _listed([shape] * cases, [spacing] * cases, **more)


def _listed(shapes: list[list[int]], spacings: list[list[float]], **more: Any) -> dict[str, Any]:
    return {
        "shapes": shapes,
        "spacings": spacings,
        "channels": more.get("channels", {"0": "MRI"}),
        "labels": more.get("labels", {"background": 0, "one": 1, "two": 2}),
        "crop": more.get("crop", 1.0),
    }


def plans_of(name: str, known: dict[str, Any], root: Path, targets: list[tuple[str, float | None]]) -> dict[str, Any]:
    """Every planner's configurations for one fingerprint."""
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as default
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners as res

    classes = {
        "nnunet": default.ExperimentPlanner,
        "residual": res.ResEncUNetPlanner,
        "residual-m": res.nnUNetPlannerResEncM,
        "residual-l": res.nnUNetPlannerResEncL,
        "residual-xl": res.nnUNetPlannerResEncXL,
    }
    folder = f"Dataset{len(list((root / 'raw').iterdir())) + 1:03d}_{name}"
    for part in ("raw", "preprocessed"):
        (root / part / folder).mkdir(parents=True)
    content = {
        "channel_names": known["channels"],
        "labels": known["labels"],
        "numTraining": len(known["shapes"]),
        "file_ending": ".none",
        "dataset": {str(k): {"images": ["none"], "label": "none"} for k in range(len(known["shapes"]))},
    }
    if any(isinstance(value, list) for value in known["labels"].values()):
        content["regions_class_order"] = [1, 2]
    (root / "raw" / folder / "dataset.json").write_text(json.dumps(content))
    statistics = known.get("statistics") or {str(k): _STATISTICS for k in range(len(known["channels"]))}
    fingerprint = {
        "spacings": known["spacings"],
        "shapes_after_crop": known["shapes"],
        "median_relative_size_after_cropping": known["crop"],
        "foreground_intensity_properties_per_channel": statistics,
    }
    (root / "preprocessed" / folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    made = {}
    for target, gb in targets:
        cls = classes[target]
        planner = type(cls.__name__, (cls,), {"determine_reader_writer": lambda self: _Reader})(
            folder, **({"gpu_memory_target_in_gb": gb} if gb else {})
        )
        made[target if gb is None else f"{target}@{gb:g}"] = _kept(planner.plan_experiment())
    return made


_STATISTICS = {"mean": 0, "median": 0, "std": 1, "min": -1, "max": 1, "percentile_99_5": 1, "percentile_00_5": -1}


class _Reader:
    """Stands where nnU-Net asks for the name of a reader."""


def _kept(plans: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a plan, without names of functions and folders."""
    wanted = ("batch_size", "patch_size", "median_image_size_in_voxels", "spacing", "normalization_schemes",
              "use_mask_for_norm", "batch_dice", "previous_stage")  # fmt: skip
    architecture = ("n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage",
                    "n_blocks_per_stage", "n_conv_per_stage_decoder")  # fmt: skip
    result: dict[str, Any] = {"transpose_forward": plans["transpose_forward"], "configurations": {}}
    for name, one in plans["configurations"].items():
        kept = {key: one[key] for key in wanted if key in one}
        network = one.get("architecture", {}).get("arch_kwargs", {})
        result["configurations"][name] = kept | {key: network[key] for key in architecture if key in network}
    return result


def fingerprint_of(name: str, source: Path, root: Path) -> dict[str, Any]:
    """Link a folder of pairs into nnU-Net's layout and let nnunetv2 look at it."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    folder = root / "raw" / f"Dataset{len(list((root / 'raw').iterdir())) + 1:03d}_{name}"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    images = sorted((source / "images").iterdir())
    ending = "".join(images[0].suffixes)
    for path in images:
        stem = path.name[: -len(ending)]
        (folder / "imagesTr" / f"{stem}_0000{ending}").symlink_to(path)
        (folder / "labelsTr" / path.name).symlink_to(source / "labels" / path.name)
    channel = "CT" if "liver" in name else "MRI"
    labels = {"background": 0, "liver": 1} if "liver" in name else {"background": 0, "anterior": 1, "posterior": 2}
    content = {"channel_names": {"0": channel}, "labels": labels, "numTraining": len(images), "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(content))
    found = DatasetFingerprintExtractor(folder.name, 1).run()
    return {
        "shapes": [[int(n) for n in shape] for shape in found["shapes_after_crop"]],
        "spacings": [[float(h) for h in spacing] for spacing in found["spacings"]],
        "channels": content["channel_names"],
        "labels": labels,
        "crop": float(found["median_relative_size_after_cropping"]),
        "statistics": {str(k): v for k, v in found["foreground_intensity_properties_per_channel"].items()},
    }


def compact(known: dict[str, Any]) -> dict[str, Any]:
    """Cases that are all alike are written once, with their number."""
    shapes, spacings = known["shapes"], known["spacings"]
    alike = all(shape == shapes[0] for shape in shapes) and all(spacing == spacings[0] for spacing in spacings)
    return known | {"shapes": shapes[:1], "spacings": spacings[:1], "count": len(shapes)} if alike else known


def main(out: Path, folders: list[str]) -> None:
    """Write one JSON file a data set."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for part, variable in (
            ("raw", "nnUNet_raw"),
            ("preprocessed", "nnUNet_preprocessed"),
            ("res", "nnUNet_results"),
        ):
            (root / part).mkdir()
            os.environ[variable] = str(root / part)
        known = fingerprints() if not folders else {}
        for text in folders:
            name, _, source = text.partition("=")
            known[name] = fingerprint_of(name, Path(source), root)
        few = [("nnunet", None), ("residual-m", None)]
        more = [
            ("residual", None),
            ("residual-l", None),
            ("residual-xl", None),
            ("nnunet", 24.0),
            ("nnunet", 4.0),
        ]
        thorough = ("isotropic", "abdomen", "large_pictures", "five_to_one")
        for name, one in known.items():
            plans = plans_of(name, one, root, few + more if name in thorough else few)
            (out / f"{name}.json").write_text(json.dumps({"fingerprint": compact(one), "plans": plans}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
