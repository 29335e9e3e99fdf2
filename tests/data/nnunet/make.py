"""Make the folders of nnU-Net models that the importer's tests read, with nnU-Net itself.

Run it with a Python that has nnunetv2 (2.8.1 made the ones here): ``python tests/data/nnunet/make.py``. Two small
synthetic data sets are fingerprinted, planned, preprocessed and trained for two epochs of two steps; the networks are
made narrow and the patches small by editing the plans, so that the checkpoints stay small. Beside each model lie an
input and the logits that nnU-Net's own predictor gives for it in each fold.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PROCESSES = "nnUNet_n_proc_DA"
HERE = Path(__file__).parent
WORK = Path(tempfile.mkdtemp())
for name in ("raw", "preprocessed", "results"):
    (WORK / name).mkdir()
    os.environ[f"nnUNet_{name}"] = str(WORK / name)
os.environ |= {PROCESSES: "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "0"}

import SimpleITK  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # noqa: E402
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

PLAIN = {
    "id": 801,
    "name": "Plain",
    "channels": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "planner": "ExperimentPlanner",
    "plans": "nnUNetPlans",
    "configuration": "3d_fullres",
    "patch": [12, 16, 16],
    "shape": (18, 24, 22),
    "architecture": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
    },
}
REGIONS = {
    "id": 802,
    "name": "Regions",
    "channels": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2},
    "regions_class_order": [1, 2],
    "planner": "nnUNetPlannerResEncM",
    "plans": "nnUNetResEncUNetMPlans",
    "configuration": "2d",
    "patch": [16, 24],
    "shape": (8, 32, 28),
    "architecture": {
        "n_stages": 3,
        "features_per_stage": [4, 4, 8],
        "kernel_sizes": [[3, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [2, 2]],
        "n_blocks_per_stage": [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
    },
}


def raw_data(spec: dict[str, Any]) -> None:
    """Six cases: bright ellipsoids with a core, at voxels of 2 x 1 x 1 mm."""
    folder = WORK / "raw" / f"Dataset{spec['id']}_{spec['name']}"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(spec["id"])
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in spec["shape"]], indexing="ij")
    for number in range(6):
        shift, size = random.uniform(-0.2, 0.2, 3), random.uniform(0.6, 0.8)
        radius = np.sqrt(sum((p - s) ** 2 for p, s in zip(places, shift, strict=True)))
        label = ((radius < size).astype(np.uint8) + (radius < size / 2)).astype(np.uint8)
        for channel in spec["channels"]:
            image = 100 * label + random.normal(0, 20, label.shape) + 5
            save(folder / "imagesTr" / f"case{number}_000{channel}.nii.gz", image.astype(np.float32))
        save(folder / "labelsTr" / f"case{number}.nii.gz", label)
    content = {"channel_names": spec["channels"], "labels": spec["labels"], "numTraining": 6, "file_ending": ".nii.gz"}
    if "regions_class_order" in spec:
        content["regions_class_order"] = spec["regions_class_order"]
    (folder / "dataset.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def save(path: Path, array: np.ndarray) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.0))
    SimpleITK.WriteImage(image, str(path))


def train(spec: dict[str, Any]) -> Path:
    """Plan, edit, preprocess, train two folds; gives the folder of results."""
    os.environ[PROCESSES] = "1"
    extract_fingerprints([spec["id"]], num_processes=1, check_dataset_integrity=True)
    plan_experiments([spec["id"]], spec["planner"], gpu_memory_target_in_gb=8)
    dataset = f"Dataset{spec['id']}_{spec['name']}"
    file = WORK / "preprocessed" / dataset / f"{spec['plans']}.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    chosen = plans["configurations"][spec["configuration"]]
    plans["configurations"] = {spec["configuration"]: chosen}
    chosen["patch_size"], chosen["batch_size"] = spec["patch"], 2
    kept = chosen["architecture"]["arch_kwargs"]
    chosen["architecture"]["arch_kwargs"] = kept | spec["architecture"]
    file.write_text(json.dumps(plans, indent=2), encoding="utf-8")
    # planning takes it for a number of threads, training for one of processes
    os.environ[PROCESSES] = "0"
    preprocess([spec["id"]], spec["plans"], (spec["configuration"],), (1,))
    content = json.loads((WORK / "raw" / dataset / "dataset.json").read_text(encoding="utf-8"))
    for fold in (0, 1):
        torch.manual_seed(fold)
        mine = json.loads(json.dumps(plans)) | {"continue_training": False}
        trainer = nnUNetTrainer(mine, spec["configuration"], fold, content, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 2, 1
        trainer.run_training()
        # norms start at one and zero: other numbers there, so that exchanged ones are seen
        with torch.no_grad():
            for parameter in trainer.network.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        trainer.current_epoch -= 1  # as at the end of the last epoch
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    return Path(trainer.output_folder).parent


def keep(spec: dict[str, Any], results: Path) -> None:
    """What a person shares: plans, data set, checkpoints; and what nnU-Net makes of one input."""
    out = HERE / spec["name"].lower()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name in ("plans.json", "dataset.json"):
        shutil.copy(results / name, out)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1, len(spec["channels"]), *spec["patch"], generator=random)
    kept = {"input": x.numpy()}
    for fold in (0, 1):
        (out / f"fold_{fold}").mkdir()
        shutil.copy(results / f"fold_{fold}" / "checkpoint_final.pth", out / f"fold_{fold}")
        predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False)
        predictor.initialize_from_trained_model_folder(str(out), (fold,), "checkpoint_final.pth")
        predictor.network.load_state_dict(predictor.list_of_parameters[0])
        predictor.network.eval()
        with torch.no_grad():
            kept[f"logits_{fold}"] = predictor.network(x).numpy()
    np.savez_compressed(out / "nnunet_logits.npz", **kept)


def old_plans() -> None:
    """Plans as nnU-Net wrote them before version 2.5, for the plain model: 2.8.1 still reads them, and must agree."""
    out = WORK / "old"
    shutil.copytree(HERE / "plain", out)
    plans = json.loads((out / "plans.json").read_text(encoding="utf-8"))
    chosen = plans["configurations"]["3d_fullres"]
    kwargs = chosen.pop("architecture")["arch_kwargs"]
    chosen |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }
    (out / "plans.json").write_text(json.dumps(plans, indent=2), encoding="utf-8")
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False)
    predictor.initialize_from_trained_model_folder(str(out), (0,), "checkpoint_final.pth")
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    kept = np.load(out / "nnunet_logits.npz")
    with torch.no_grad():
        found = predictor.network.eval()(torch.from_numpy(kept["input"])).numpy()
    np.testing.assert_allclose(found, kept["logits_0"], atol=1e-6)
    shutil.copy(out / "plans.json", HERE / "old_plans.json")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for spec in (PLAIN, REGIONS):
        raw_data(spec)
        keep(spec, train(spec))
    old_plans()
    shutil.rmtree(WORK)
