"""Make the models and answers of `tests/src_models/inference/test_orientation.py`, with nnU-Net itself.

Run it with a Python that has nnunetv2 (2.8.1 made the ones here): ``python tests/data/nnunet/make_turned.py``. nnU-Net
plans, preprocesses and trains on the two sample scans of the hippocampus, a small 3D network without mirroring and a
small 2D one with it; plans are edited so that checkpoints stay small, and the optimiser's state is left out of them.
Its own predictor then answers for one scan stored in several ways round (`tests/turned.py`), once for each of its
readers of NIfTI files, and once more with its sums in float32: it keeps them in float16.

The scans, and so what is made of them, are CC-BY-SA 4.0; see sample_data/hippocampus_mr.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

PROCESSES = "nnUNet_n_proc_DA"
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT))
WORK = Path(tempfile.mkdtemp())
for name in ("raw", "preprocessed", "results"):
    (WORK / name).mkdir()
    os.environ[f"nnUNet_{name}"] = str(WORK / name)
os.environ |= {PROCESSES: "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "0"}

import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # noqa: E402
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference import predict_from_raw_data  # noqa: E402
from nnunetv2.inference.export_prediction import (  # noqa: E402
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (  # noqa: E402
    nnUNetTrainerNoMirroring,
)

from tests.turned import ORIENTATIONS, store  # noqa: E402

SCANS = ROOT / "sample_data" / "hippocampus_mr"
DATASET = "Dataset803_Hippocampus"
READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient")
EVERY = 203
"""One of so many logits is kept."""
MODELS: dict[str, dict[str, Any]] = {
    "3d_fullres": {
        "trainer": nnUNetTrainerNoMirroring,
        "patch": [24, 32, 24],
        "architecture": {
            "n_stages": 3,
            "features_per_stage": [6, 12, 16],
            "kernel_sizes": [[3, 3, 3]] * 3,
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
        },
    },
    "2d": {
        "trainer": nnUNetTrainer,
        "patch": [40, 32],
        "architecture": {
            "n_stages": 3,
            "features_per_stage": [8, 16, 24],
            "kernel_sizes": [[3, 3]] * 3,
            "strides": [[1, 1], [2, 2], [2, 2]],
            "n_conv_per_stage": [2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2],
        },
    },
}


def raw_data() -> dict[str, Any]:
    """The sample scans in nnU-Net's layout."""
    folder = WORK / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in ("001", "006"):
        shutil.copy(SCANS / f"hippocampus_{number}.nii.gz", folder / "imagesTr" / f"hippocampus_{number}_0000.nii.gz")
        shutil.copy(SCANS / f"hippocampus_{number}_label.nii.gz", folder / "labelsTr" / f"hippocampus_{number}.nii.gz")
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return content


def train(configuration: str, plans: dict[str, Any], dataset: dict[str, Any]) -> Path:
    """Train on both scans; gives the folder that a person would share."""
    spec = MODELS[configuration]
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = spec["trainer"](
        json.loads(json.dumps(plans)) | {"continue_training": False}, configuration, "all", dataset, torch.device("cpu")
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 30, 50, 1
    trainer.run_training()
    results = Path(trainer.output_folder).parent
    out = HERE / f"hippocampus_{configuration}"
    shutil.rmtree(out, ignore_errors=True)
    (out / "fold_all").mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(results / name, out)
    content = torch.load(results / "fold_all" / "checkpoint_final.pth", weights_only=False)
    torch.save(content | {"optimizer_state": {}}, out / "fold_all" / "checkpoint_final.pth")
    return out


def answers(model: Path) -> dict[str, np.ndarray]:
    """What nnU-Net makes of every file with every reader."""
    kept: dict[str, np.ndarray] = {}
    for reader in READERS:
        copy = WORK / f"{model.name}_{reader}"
        shutil.copytree(model, copy)
        plans = json.loads((copy / "plans.json").read_text(encoding="utf-8"))
        (copy / "plans.json").write_text(json.dumps(plans | {"image_reader_writer": reader}), encoding="utf-8")
        predictor = predict_from_raw_data.nnUNetPredictor(
            use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(copy), ("all",), "checkpoint_final.pth")
        for orientation in ORIENTATIONS:
            file = store(orientation, WORK / f"{orientation}_0000.nii.gz")
            key = f"{reader}.{orientation}"
            kept |= {f"{key}.{name}": array for name, array in answer(predictor, file).items()}
    return kept


def answer(predictor: Any, file: Path) -> dict[str, np.ndarray]:
    """Labels as its writer stores them, slowest axis first; and the same with sums in float32, with some logits."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case([str(file)], None, plans, configuration, predictor.dataset_json)
    data = torch.from_numpy(np.ascontiguousarray(data, np.float32))
    rw = plans.image_reader_writer_class()
    found = {}
    for name, exact in (("labels", False), ("labels32", True)):
        logits = with_single_sums(predictor, data) if exact else predictor.predict_logits_from_preprocessed_data(data)
        labels = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties
        )
        rw.write_seg(labels, str(WORK / "labels.nii.gz"), properties)
        import nibabel

        found[name] = np.asarray(nibabel.load(WORK / "labels.nii.gz").dataobj).transpose(2, 1, 0).astype(np.uint8)
        if exact:
            found["logits"] = logits.numpy().ravel()[::EVERY]
            found["logits_shape"] = np.array(logits.shape)
    return found


def with_single_sums(predictor: Any, data: torch.Tensor) -> torch.Tensor:
    """nnU-Net's own windows with weights and sums in float32 in place of float16."""
    half, weights = torch.half, predict_from_raw_data.compute_gaussian
    try:
        torch.half = torch.float32
        predict_from_raw_data.compute_gaussian = lambda *a, **k: weights.__wrapped__(*a, **(k | {"dtype": torch.half}))
        return predictor.predict_logits_from_preprocessed_data(data)
    finally:
        torch.half, predict_from_raw_data.compute_gaussian = half, weights


def main() -> None:
    """Everything."""
    torch.set_num_threads(1)
    dataset = raw_data()
    extract_fingerprints([803], num_processes=1, check_dataset_integrity=True)
    plan_experiments([803], "ExperimentPlanner", gpu_memory_target_in_gb=8)
    file = WORK / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text(encoding="utf-8"))
    plans["configurations"] = {name: plans["configurations"][name] for name in MODELS}
    for name, spec in MODELS.items():
        chosen = plans["configurations"][name]
        chosen["patch_size"], chosen["batch_size"] = spec["patch"], 2
        chosen["architecture"]["arch_kwargs"] |= spec["architecture"]
    file.write_text(json.dumps(plans, indent=2), encoding="utf-8")
    # planning takes it for a number of threads, training for one of processes
    os.environ[PROCESSES] = "0"
    preprocess([803], "nnUNetPlans", tuple(MODELS), (1,) * len(MODELS))
    for name in MODELS:
        out = train(name, plans, dataset)
        np.savez_compressed(out / "nnunet_answers.npz", **answers(out))
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
