"""The models that ship: their plans, their folds, the table of unseen patients, and the model itself.

    python benchmarks/shipped_models.py liver --data FOLDER --out FOLDER [--folds 0,1,2,3,4] [--ship]
    python benchmarks/shipped_models.py liver-lsn --data FOLDER --out FOLDER --begin FOLDER [--ship]
    python benchmarks/shipped_models.py hippocampus --data FOLDER --out FOLDER [--folds 0] [--ship]

FOLDER of the data is ``msd_liver_slices`` or ``msd_hippocampus`` (README of ``sample_data`` says where they come from);
``liver-lsn`` and ``liver-lsn-click`` are level set networks on the former. Folds that are finished in the output folder
are not trained again; ``--begin`` is such a folder of another model, whose weights of the same fold are begun with.
Writes ``docs/model_liver.md`` and so on; with ``--ship`` also the model of the first fold, for the package.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.preprocessing.click import Click  # noqa: E402
from src_models.preprocessing.parameters import Channel, Preprocessing  # noqa: E402
from src_models.progress import Progress, finish  # noqa: E402
from src_models.training.case import DataSet  # noqa: E402
from src_models.training.cases import open_data_set  # noqa: E402
from src_models.training.crossval import CrossvalResult, as_markdown, crossval  # noqa: E402
from src_models.training.defaults import default_plan, network_config  # noqa: E402
from src_models.training.fingerprint import fingerprint_now  # noqa: E402
from src_models.training.folds import make_folds  # noqa: E402
from src_models.training.loop import RunSettings  # noqa: E402
from src_models.training.plan import Augmentation, Optimiser, TrainingPlan  # noqa: E402
from src_models.training.planning import plan_data_set  # noqa: E402
from src_models.training.selection import select_postprocessing  # noqa: E402
from src_models.weights import store  # noqa: E402
from src_models.weights.card import ModelCard, TrainingData  # noqa: E402
from src_models.weights.listing import SHIPPED  # noqa: E402

SEED = 1
CHANGES = Augmentation(
    rotation=0.3,
    rotation_degrees=(20.0,),
    scaling=0.4,
    scaling_range=(0.8, 1.25),
    noise=0.1,
    blur=0.1,
    brightness=0.15,
    contrast=0.15,
    low_resolution=0.1,
    gamma_inverted=0.1,
    gamma=0.3,
    mirror_axes=(),
)
NOT_MIRRORED = "Mirroring is off: left and right, front and back tell where an organ lies."


def liver(folder: Path) -> tuple[TrainingPlan, DataSet]:
    """A UNet on CT slices of 256 x 256 pixels, windows of 192 x 192: most of the body is in sight."""
    data = open_data_set(folder, groups=r"^(p\d+)_", label_names={1: "liver"}, channels=["CT slice"])
    widths = {"depth": 5, "widths": (16, 32, 64, 128, 128, 128)}
    plan = default_plan(data, "unet", patch=(192, 192), batch=6, epochs=60, iterations=31, options=widths)
    (one,) = plan.configurations
    # The slices hold HU 0 to 255; their pixels have no size, LiTS slices of 512 pixels halved have about 1.5 mm.
    preprocessing = Preprocessing(
        channels=(Channel(name="CT", window=(0.0, 255.0)),), unit="px", pixel_mm=1.5, crop_to_nonzero=False
    )
    one = one.model_copy(update={"preprocessing": preprocessing})
    # Fat and contrast agent make a liver darker or brighter than all around it: grey values are changed more often.
    changes = CHANGES.model_copy(
        update={
            "rotation": 0.4,
            "scaling": 0.6,
            "scaling_range": (0.7, 1.4),
            "noise": 0.2,
            "brightness": 0.3,
            "contrast": 0.3,
            "gamma_inverted": 0.4,
            "gamma": 0.5,
        }
    )
    return plan.model_copy(update={"configurations": (one,), "augmentation": changes, "modality": "CT"}), data


LEVEL_SETS: dict[str, dict[str, Any]] = {
    "lsn": {"start": "stem", "stem_layers": 2, "stem_width": 12, "steps": (20, 10, 5, 0), "edge": "unet"},
    "lsn-click": {"start": "seed", "steps": (20, 10, 5, 0), "kernels": 8},
    "lsn-unet-click": {"start": "seed", "steps": (20, 10, 5, 0), "edge": "unet"},
    "lsn-unet-click-20": {"start": "seed", "steps": (20, 10, 5, 0), "edge": "unet"},
}
"""Level set networks for the liver: without any click, from a click with learned kernels e, or with a UNet as g."""
INIT_FROM = {"lsn": "lsn-unet-click", "lsn-unet-click-20": "lsn-unet-click"}
"""Networks that begin with the weights that another one learned from the same patients. Without them g of the one
without a click falls to 0 everywhere, and what its start says is all that is left of it."""


def level_set(folder: Path, variant: str = "lsn", epochs: int = 10) -> tuple[TrainingPlan, DataSet]:
    """A level set network on whole CT slices; their grey values are measured from those of the liver."""
    plan, data = liver(folder)
    (one,) = plan.configurations
    # 8 px: a front learns from what lies ahead of it, and the logit grows steeper by itself as it comes nearer
    wide = {"temperature": 8.0, "learn_temperature": True}
    options = {"gradient": "godunov", "convection": 1.0} | wide | LEVEL_SETS[variant]
    (known,) = fingerprint_now(data).channels
    channel = one.preprocessing.channels[0].model_copy(update={"normalisation": "ct", "statistics": known})
    one = one.model_copy(
        update={
            "network": network_config(data, "lsn", 2, options),
            "patch": (256, 256),
            "batch": 4,
            "batch_dice": False,
            "preprocessing": one.preprocessing.model_copy(update={"channels": (channel,)}),
        }
    )
    rate = 2e-3 if LEVEL_SETS[variant].get("edge") == "unet" else 5e-3
    adam = Optimiser(name="adamw", rate=rate, weight_decay=1e-4, schedule="warm_cosine", clip=1.0)
    changes = CHANGES.model_copy(update={"rotation": 0.2, "scaling": 0.3, "low_resolution": 0.0, "gamma_inverted": 0.0})
    settings = {"configurations": (one,), "optimiser": adam, "augmentation": changes, "epochs": epochs}
    settings |= {"iterations": 91, "sampling": "in_turn", "foreground": 0.0}
    return plan.model_copy(update=settings), data


def hippocampus(folder: Path) -> tuple[TrainingPlan, DataSet]:
    """nnU-Net's self-configured 3D network at half its width, for a computer without a graphics card."""
    names = {1: "anterior hippocampus", 2: "posterior hippocampus"}
    data = open_data_set(folder, label_names=names, channels=["MR"])
    plan = plan_data_set(data, fingerprint_now(data), folds=make_folds(data.groups), modality="MR")
    one = plan.configuration("3d_fullres")
    options = dict(one.network["options"])
    options["features_per_stage"] = [width // 2 for width in options["features_per_stage"]]
    one = one.model_copy(update={"network": one.network | {"options": options}, "batch": 2})
    return plan.model_copy(
        update={"configurations": (one,), "augmentation": CHANGES, "epochs": 80, "iterations": 50}
    ), data


LITS = TrainingData(
    name="MSD Task03 Liver (LiTS), slices of 256 x 256 pixels, 8 bit",
    citation="Antonelli et al., Nature Communications 13, 4128 (2022); "
    "Bilic et al., Medical Image Analysis 84, 102680 (2023)",
    licence="CC-BY-SA 4.0",
)
MODELS: dict[str, dict[str, Any]] = {
    "liver": {
        "make": liver,
        "name": "unet-liver-2d",
        "task": "Liver, tumours included, in axial CT slices",
        "chosen": "The plan is the best of three that were compared on fold 2, so that the score of that fold is "
        "optimistic.",
        # all slices that it was trained on hold some liver: elsewhere in a body it finds what is none
        "inference": {"keep_largest_in_volumes": [[1]]},
        "data": LITS,
        "licence": "CC-BY-SA 4.0",
    },
    "liver-lsn": {
        "make": level_set,
        "name": "lsn-ct-2d",
        "chosen": "It began with the weights of a level set network that was trained with a click on the same "
        "patients, for as many steps. Its plan was worked out on fold 0, so that the score of that fold is optimistic; "
        "grey values are measured on all patients.",
        "task": "Liver, tumours included, in axial CT slices, by a level set network without any click",
        "inference": {"keep_largest_in_volumes": [[1]]},
        "data": LITS,
        "licence": "CC-BY-SA 4.0",
    },
    "liver-lsn-click": {
        "make": partial(level_set, variant="lsn-unet-click-20"),
        "name": "lsn-ct-click-2d",
        "chosen": "Every slice had a click at the innermost place of its reference, as a person would set it. The "
        "training went on from one of as many steps. The plan was worked out on fold 0, so that the score of that fold "
        "is optimistic; grey values are measured on all patients.",
        "task": "Liver, tumours included, in axial CT slices, by a level set network that begins at a click",
        "data": LITS,
        "licence": "CC-BY-SA 4.0",
    },
    "hippocampus": {
        "make": hippocampus,
        "name": "nnunet-hippocampus-3d",
        "chosen": "Mirroring, changes of images and number of epochs were chosen on this fold: its score is "
        "optimistic.",
        "task": "Anterior and posterior hippocampus in T1 MR, cropped around the hippocampus",
        "data": TrainingData(
            name="MSD Task04 Hippocampus, 200 cases",
            citation="Antonelli et al., Nature Communications 13, 4128 (2022)",
            licence="CC-BY-SA 4.0",
        ),
        "licence": "CC-BY-SA 4.0",
    },
}


def run(name: str, data: Path, out: Path, folds: Sequence[int] | None, begin: Path | None, ship: bool) -> None:
    """Train what is not trained yet, write the page and the model."""
    plan, cases = MODELS[name]["make"](data)
    settings = RunSettings(device="auto", precision="bf16", workers=0)
    if begin is not None:
        for fold in range(len(plan.folds)) if folds is None else folds:
            own = replace(settings, init_from=begin / f"fold_{fold}" / "model.safetensors")
            told(crossval(plan, cases, out, folds=(fold,), seed=SEED, settings=own))
    result = told(crossval(plan, cases, out, folds=folds, seed=SEED, settings=settings))
    if ship and Click.of(plan.configuration().network) is None:
        # whether the largest part alone is kept is decided on patients that were left out; a click decides it by itself
        finish(select_postprocessing(plan, cases, {plan.configuration().name: result}, device="cpu"))
    first = min(result.folds)
    model = store.load(out / f"fold_{first}" / "model.safetensors")
    card = shipped_card(name, model.card, json.loads((out / "table.json").read_text(encoding="utf-8"))["rows"])
    (ROOT / "docs" / f"model_{name}.md").write_text(page(name, card, as_markdown(result.rows)), encoding="utf-8")
    if ship:
        SHIPPED.mkdir(exist_ok=True)
        store.save(model.network, card, SHIPPED / f"{card.name}@{card.version}.safetensors", overwrite=True)
        print(f"shipped {card.name}")


def told(work: Generator[Progress, None, CrossvalResult]) -> CrossvalResult:
    """What a cross-validation returns, with a line now and then."""
    last = 0.0
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            result: CrossvalResult = end.value
            return result
        if time.monotonic() - last > 20:
            last = time.monotonic()
            print(step.message, flush=True)


def shipped_card(name: str, card: ModelCard, rows: Sequence[dict[str, Any]]) -> ModelCard:
    """The card of a training, with what the package says of it."""
    about = MODELS[name]
    data: TrainingData = about["data"]
    counted = {"patients": card.training_data.patients, "cases": card.training_data.cases}
    note = (
        f"Mean Dice per unseen patient by fold, with 95 % intervals; the weights are those of fold {card.fold}. "
        + about["chosen"]
    )
    return card.model_copy(
        update={
            "name": about["name"],
            "task": about["task"],
            "training_data": data.model_copy(update=counted),
            "weights_licence": about["licence"],
            "metrics": tuple(rows),
            "metrics_note": note,
            "inference": card.inference | about.get("inference", {}),
        }
    )


def page(name: str, card: ModelCard, table: str) -> str:
    """The page of a model."""
    data = card.training_data
    about = (
        f"{card.task}. Trained on {data.patients} patients ({data.cases} images) of {data.name}, {data.licence}; "
        f"{data.citation}. Network `{card.network['name']}`, {card.ndim}D; {card.budget}. {NOT_MIRRORED} The weights "
        f"in the package are those of fold {card.fold}: its left-out patients were never seen by them."
    )
    worst = '"All but" leaves out the worst fold. ' if "all but" in table else ""
    return f"""# {card.name}

Written by `python benchmarks/shipped_models.py {name}`; do not edit.

{fill(about, 120)}

{table}
{fill(worst + MODELS[name]["chosen"], 120)}

{card.intended_use}
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=tuple(MODELS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--begin", type=Path)
    parser.add_argument("--folds", type=lambda text: [int(word) for word in text.split(",")])
    parser.add_argument("--ship", action="store_true")
    given = parser.parse_args()
    run(given.model, given.data, given.out, given.folds, given.begin, given.ship)
