"""Time of a training step beside a plain MONAI loop: the same network, batch, patch, loss, optimiser and augmentation.

    python benchmarks/training_step.py [--steps 200] [--warm 20] [--batch 4] [--volume] [--device cpu]

Both loops make their samples and take their steps in one process, in turns of ten steps, so that what else the
computer does meets both alike. MONAI's loop is what its tutorials show: random transforms of a dictionary, a data
loader, `DiceCELoss`, and an optimiser of torch. The rotation and scaling of both are one interpolation; MONAI draws
whether to do both together, so its probability is set to that of either of ours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.processor import let_waiting_threads_sleep  # noqa: E402
from src_models.training.cases import case_from_arrays, data_set_from_arrays, open_data_set  # noqa: E402
from src_models.training.defaults import default_plan  # noqa: E402
from src_models.training.devices import open_devices  # noqa: E402
from src_models.training.label_targets import Targets  # noqa: E402
from src_models.training.loader import batches  # noqa: E402
from src_models.training.loop import sampler_of  # noqa: E402
from src_models.training.prepared import prepare  # noqa: E402
from src_models.training.trainer import Trainer, fresh_network  # noqa: E402

SLICES = ROOT / "sample_data" / "liver_slices"
TURN = 10


def main() -> None:
    """Both loops, and what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warm", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0, help="Threads of ours, processes of MONAI's loader.")
    parser.add_argument("--volume", action="store_true", help="3D patches of 40 x 56 x 40 in place of 256 x 256.")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    let_waiting_threads_sleep()
    plan, training = material(arguments)
    ours = our_steps(plan, training, arguments)
    theirs = monai_steps(plan, training, arguments)
    times: dict[str, list[float]] = {"ours": [], "MONAI": []}
    for _ in range(-(-(arguments.warm + arguments.steps) // TURN)):
        for name, loop in (("ours", ours), ("MONAI", theirs)):
            for _ in range(TURN):
                began = time.perf_counter()
                next(loop)
                times[name].append(time.perf_counter() - began)
    print(
        f"{plan.configuration().patch} voxels, {arguments.batch} a step, {arguments.device}, torch {torch.__version__}"
    )
    means = {name: float(np.mean(values[arguments.warm :])) for name, values in times.items()}
    for name, values in times.items():
        kept = np.array(values[arguments.warm :]) * 1000
        print(f"{name:6} {kept.mean():8.1f} ms a step, median {np.median(kept):8.1f} ms, {len(kept)} steps")
    print(f"MONAI / ours: {means['MONAI'] / means['ours']:.2f}")


def material(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The plan, and its prepared cases."""
    if arguments.volume:
        rng = np.random.default_rng(0)
        cases = []
        for k in range(4):
            label = np.zeros((44, 60, 44), np.uint8)
            label[12:30, 15:40, 12:30] = 1
            cases.append(case_from_arrays(f"v{k}", label * 50 + rng.normal(0, 20, label.shape), label, (1.0, 1.0, 1.0)))
        data = data_set_from_arrays("volumes", cases)
        plan = default_plan(data, patch=(40, 56, 40), batch=arguments.batch, options={"depth": 3, "base_width": 16})
    else:
        data = open_data_set(SLICES, groups="(p[0-9]+)_")
        plan = default_plan(data, batch=arguments.batch)
    work = prepare(plan, plan.configuration(), data.cases, ())
    while True:
        try:
            next(work)
        except StopIteration as end:
            return plan, end.value.training


def our_steps(plan: Any, training: Any, arguments: argparse.Namespace) -> Iterator[float]:
    """Steps of this package."""
    chosen = plan.configuration()
    devices = open_devices(arguments.device)
    trainer = Trainer(plan, chosen, devices, fresh_network(chosen, 0), 0, {})
    sampler = sampler_of(plan, chosen, training, 0)
    for batch in batches(sampler, Targets.of(plan), range(10**9), workers=arguments.workers):
        trainer.advance(batch)
        yield trainer.read_losses()


def monai_steps(plan: Any, training: Any, arguments: argparse.Namespace) -> Iterator[float]:
    """Steps of a plain MONAI loop."""
    from monai.data import DataLoader, Dataset
    from monai.losses import DiceCELoss

    chosen = plan.configuration()
    items = [{"image": case.image, "label": case.labels[None].clip(0)} for case in training]
    transform = monai_transform(plan.augmentation, chosen.patch)
    # an epoch that does not end: a plain loop would pay for the start of its workers again and again
    data = Dataset(items * (10**6 // len(items)), transform)
    loader = DataLoader(data, batch_size=chosen.batch, num_workers=arguments.workers)
    network = fresh_network(chosen, 0).to(arguments.device).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=plan.optimiser.rate, weight_decay=plan.optimiser.weight_decay
    )
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=chosen.batch_dice)
    for batch in loader:
        image, label = batch["image"].to(arguments.device), batch["label"].to(arguments.device)
        optimiser.zero_grad()
        value = loss(network(image), label)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), plan.optimiser.clip)
        optimiser.step()
        yield value.item()


def monai_transform(augmentation: Any, patch: tuple[int, ...]) -> Any:
    """The same list of changes by MONAI's transforms."""
    from monai import transforms as t

    ndim = len(patch)
    image = ["image"]
    both = ["image", "label"]
    either = 1 - (1 - augmentation.rotation) * (1 - augmentation.scaling)
    turn = (np.pi,) if ndim == 2 else (np.pi / 6,) * 3
    return t.Compose(
        [
            t.SpatialPadd(both, patch),
            t.RandSpatialCropd(both, patch, random_size=False),
            t.RandAffined(
                both,
                prob=either,
                rotate_range=turn,
                scale_range=((-0.3, 0.4),) * ndim,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            t.RandGaussianNoised(image, prob=augmentation.noise, std=0.1),
            t.RandGaussianSmoothd(
                image, prob=augmentation.blur / 2, sigma_x=(0.5, 1), sigma_y=(0.5, 1), sigma_z=(0.5, 1)
            ),
            t.RandScaleIntensityd(image, factors=0.25, prob=augmentation.brightness),
            t.RandScaleIntensityFixedMeand(image, factors=0.25, preserve_range=True, prob=augmentation.contrast),
            t.RandSimulateLowResolutiond(
                image,
                prob=augmentation.low_resolution / 2,
                zoom_range=(0.5, 1),
                upsample_mode="bilinear" if ndim == 2 else "trilinear",
            ),
            t.RandAdjustContrastd(
                image, prob=augmentation.gamma_inverted, gamma=(0.7, 1.5), invert_image=True, retain_stats=True
            ),
            t.RandAdjustContrastd(image, prob=augmentation.gamma, gamma=(0.7, 1.5), retain_stats=True),
            *(t.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(ndim)),
            t.ToTensord(both, track_meta=False),
        ]
    )


if __name__ == "__main__":
    main()
