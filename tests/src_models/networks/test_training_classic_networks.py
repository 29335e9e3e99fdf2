"""Every network learns from real images: a few seconds of training on the samples, tiny widths."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from src_models.files import read_segmentation, read_volume
from src_models.networks.zoo import build
from src_models.sample_data import sample_file

SLICES = ("p004_s130", "p005_s134", "p027_s121", "p035_s103", "p085_s136", "p109_s116")
FC = {"width": 4, "fc_width": 32, "dropout": 0.0}
CASE = "hippocampus_001"


@cache
def liver() -> tuple[Tensor, Tensor]:
    """Six CT slices at a quarter of their size, and liver against the rest."""
    images, labels = [], []
    for name in SLICES:
        image = torch.as_tensor(read_volume(sample_file(f"liver_slices/images/{name}.png")).array.copy())
        label = torch.as_tensor(read_segmentation(sample_file(f"liver_slices/labels/{name}.png")).labels.copy())
        images.append(functional.avg_pool2d(image.reshape(1, 1, 256, 256).float(), 4)[0])
        labels.append(label.reshape(256, 256)[2::4, 2::4].long())
    stack = torch.stack(images)
    return (stack - stack.mean()) / stack.std(), torch.stack(labels)


@cache
def hippocampus() -> tuple[Tensor, Tensor]:
    """An MR cut-out, cropped, and front and back of the hippocampus as one class."""
    image = torch.as_tensor(read_volume(sample_file(f"hippocampus_mr/{CASE}.nii.gz")).array.copy()).float()
    label = torch.as_tensor(read_segmentation(sample_file(f"hippocampus_mr/{CASE}_label.nii.gz")).labels.copy())
    cut = tuple(slice((n - 32) // 2, (n - 32) // 2 + 32) for n in image.shape)
    return ((image - image.mean()) / image.std())[cut][None, None], (label[cut] > 0).long()[None]


def foreground_dice(logits: Tensor, labels: Tensor) -> float:
    found = logits.argmax(1) == 1
    return float(2 * (found & (labels == 1)).sum() / (found.sum() + (labels == 1).sum()).clamp(min=1))


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy plus soft Dice of the foreground."""
    inside, truth = logits.softmax(1)[:, 1], (labels == 1).float()
    dice = 2 * (inside * truth).sum() / (inside.sum() + truth.sum())
    return functional.cross_entropy(logits, labels) + 1 - dice


@pytest.mark.parametrize(
    ("name", "ndim", "steps", "options"),
    [
        ("fcn32s", 2, 20, FC),
        ("fcn16s", 2, 20, FC),
        ("fcn8s", 2, 20, FC),
        ("deconvnet", 2, 36, FC),
        ("segnet", 2, 26, {"width": 4}),
        ("segnet", 2, 15, {"width": 8, "preset": "basic"}),
        ("vnet", 2, 15, {"width": 4}),
        ("vnet", 2, 15, {"width": 4, "preset": "monai"}),
        ("attention-unet", 2, 15, {"base_width": 6}),
        ("fcn8s", 3, 16, FC),
        ("deconvnet", 3, 20, FC),
        ("segnet", 3, 28, {"width": 4}),
        ("vnet", 3, 10, {"width": 2}),
        ("attention-unet", 3, 15, {"base_width": 4}),
    ],
)
def test_a_few_seconds_of_training_find_the_organ(name: str, ndim: int, steps: int, options: dict[str, object]) -> None:
    images, labels = liver() if ndim == 2 else hippocampus()
    torch.manual_seed(0)
    net = build(name, 1, 2, ndim, **options)
    # where no features cross from encoder to decoder, all must pass the coarsest level: larger steps get there sooner
    rate = 3e-2 if name == "deconvnet" or (options == {"width": 4} and name == "segnet") else 1e-2
    optimiser = torch.optim.Adam(net.parameters(), rate)
    losses, dices = [], []
    for _ in range(steps):
        optimiser.zero_grad()
        logits = net(images)
        loss = loss_of(logits, labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        dices.append(foreground_dice(logits.detach(), labels))
    print(f"{name} {ndim}D {options}: loss {losses[0]:.2f} -> {losses[-1]:.2f}, Dice {dices[0]:.2f} -> {dices[-1]:.2f}")
    assert sum(losses[-3:]) / 3 < 0.7 * losses[0]
    assert sum(dices[-3:]) / 3 > 0.5
    assert sum(dices[-3:]) / 3 > dices[0] + 0.15
