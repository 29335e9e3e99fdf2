"""Losses: closed forms, equality with MONAI, several processes, deep supervision."""

from __future__ import annotations

import pytest
import torch

from src_models.networks.network import NetOutput
from src_models.training.losses import (
    IGNORED,
    SMOOTH,
    SegmentationLoss,
    coarser,
    deep_supervision_weights,
    dice_loss,
    dice_sums,
    supervised_loss,
)


def batch(head: str = "softmax", seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 9, 7, generator=generator) * 2
    if head == "sigmoid":
        return logits, (torch.rand(3, 4, 9, 7, generator=generator) < 0.3).to(torch.int8)
    return logits, torch.randint(0, 4, (3, 9, 7), generator=generator).to(torch.int8)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["dice", "dice_ce", "ce"])
def test_equals_monai(name, head, squared, batch_dice):
    from monai.losses import DiceLoss
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    logits, target = batch(head)
    soft = head == "softmax"
    # MONAI's DiceCELoss takes the softmax entropy for several regions, so that its parts are compared
    dice = DiceLoss(
        include_background=not soft,
        to_onehot_y=soft,
        softmax=soft,
        sigmoid=not soft,
        squared_pred=squared,
        batch=batch_dice,
        smooth_nr=SMOOTH,
        smooth_dr=SMOOTH,
    )(logits, target[:, None] if soft else target.float())
    entropy = cross_entropy(logits, target.long()) if soft else binary_cross_entropy_with_logits(logits, target.float())
    theirs = (dice if "dice" in name else 0) + (entropy if "ce" in name.split("_") else 0)
    ours = SegmentationLoss(name, head, batch_dice=batch_dice, squared=squared)(logits, target)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)


def test_equals_monais_sum():
    from monai.losses import DiceCELoss

    logits, target = batch()
    theirs = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    ours = SegmentationLoss("dice_ce")(logits, target)
    assert ours.item() == pytest.approx(theirs(logits, target[:, None]).item(), abs=1e-6)


def test_closed_forms():
    target = torch.zeros(1, 8, 8, dtype=torch.int8)
    target[0, :4] = 1
    right = torch.stack([1 - target.float(), target.float()], 1) * 200 - 100
    assert SegmentationLoss("dice")(right, target).item() == pytest.approx(0, abs=1e-6)
    assert SegmentationLoss("dice")(-right, target).item() == pytest.approx(1, abs=1e-5)
    undecided = torch.zeros(1, 2, 8, 8)
    # p = 1/2 everywhere: D = 2 (32/2) / (64/2 + 32) = 1/2, and the entropy is ln 2
    assert SegmentationLoss("dice")(undecided, target).item() == pytest.approx(0.5, abs=1e-6)
    assert SegmentationLoss("ce")(undecided, target).item() == pytest.approx(0.6931472, abs=1e-6)
    # squares: D = 2 (32/2) / (64/4 + 32) = 2/3
    assert SegmentationLoss("dice", squared=True)(undecided, target).item() == pytest.approx(1 / 3, abs=1e-6)


def test_the_paper_punishes_empty_slices_and_ours_does_not():
    empty = torch.zeros(2, 1, 6, 6, dtype=torch.int8)
    nothing = torch.full((2, 1, 6, 6), -100.0)
    assert SegmentationLoss("dice-paper", "sigmoid")(nothing, empty).item() == pytest.approx(1)
    assert SegmentationLoss("dice", "sigmoid")(nothing, empty).item() == pytest.approx(0, abs=1e-6)


def test_the_papers_two_formulas_are_one():
    """(sum (y-p)^2 + s) / (sum y^2 + sum p^2 + s) = 1 - 2 sum y p / (sum y^2 + sum p^2 + s), slice by slice."""
    logits, target = batch("sigmoid")
    p, y = torch.sigmoid(logits), target.float()
    below = (y * y).sum((2, 3)) + (p * p).sum((2, 3)) + SMOOTH
    printed = (((y - p) ** 2).sum((2, 3)) + SMOOTH) / below
    assert SegmentationLoss("dice-paper", "sigmoid")(logits, target).item() == pytest.approx(printed.mean().item())


@pytest.mark.parametrize("name", ["dice_ce", "dice-paper"])
@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_ignored_voxels_change_nothing(head, name):
    logits, target = batch(head)
    target[..., 5:] = IGNORED
    loss = SegmentationLoss(name, head)
    changed = logits.clone()
    changed[..., 5:] = torch.randn(changed[..., 5:].shape) * 9
    assert loss(logits, target).item() == pytest.approx(loss(changed, target).item(), abs=1e-6)
    assert loss(logits, target).item() == pytest.approx(loss(logits[..., :5], target[..., :5]).item(), abs=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("name", ["dice_ce", "dice-paper"])
def test_parts_added_are_the_whole(name, batch_dice):
    """Loss and gradient of two uneven parts with added sums are those of the batch: what several processes do."""
    logits, target = batch()
    logits.requires_grad_()
    loss = SegmentationLoss(name, batch_dice=batch_dice)
    whole = loss(logits, target)
    (gradient,) = torch.autograd.grad(whole, logits)
    parts = (slice(0, 2), slice(2, 3))
    sums: list[list[torch.Tensor]] = []
    for part in parts:
        seen: list[torch.Tensor] = []
        loss(logits[part].detach(), target[part], lambda x, seen=seen: (seen.append(x), x)[1])
        sums.append(seen)
    for own, part in enumerate(parts):
        others = iter(sums[1 - own])
        local = loss(logits[part], target[part], lambda x, others=others: x + next(others))
        assert local.item() == pytest.approx(whole.item(), abs=1e-6)
        (found,) = torch.autograd.grad(local, logits)
        torch.testing.assert_close(found[part], gradient[part])


def test_deep_supervision_weights():
    assert deep_supervision_weights(1) == (1.0,)
    assert deep_supervision_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))
    several = deep_supervision_weights(4, distributed=True)
    assert several[-1] > 0
    assert several == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0), abs=1e-5)
    assert sum(several) == pytest.approx(1)


def test_deep_supervision_is_the_weighted_sum_and_not_monais_default():
    from monai.losses import DeepSupervisionLoss, DiceCELoss

    logits, target = batch()
    generator = torch.Generator().manual_seed(1)
    coarse = (torch.randn(3, 4, 5, 4, generator=generator), torch.randn(3, 4, 3, 2, generator=generator))
    loss = SegmentationLoss("dice_ce")
    weights = deep_supervision_weights(3)
    ours = supervised_loss(loss, NetOutput(logits, coarse), target, weights)
    halves = coarser(target, (5, 4))
    assert ours.item() == pytest.approx((2 / 3 * loss(logits, target) + 1 / 3 * loss(coarse[0], halves)).item())
    each = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    theirs = DeepSupervisionLoss(each, weight_mode="exp")([logits, *coarse], target[:, None].float())
    assert abs(theirs.item() - ours.item()) > 0.1


def test_without_weights_the_coarse_outputs_do_not_count():
    logits, target = batch()
    coarse = torch.full((3, 4, 5, 4), float("nan"))
    loss = SegmentationLoss("dice_ce")
    assert supervised_loss(loss, NetOutput(logits, (coarse,)), target, None) == loss(logits, target)


def test_the_coarse_reference_takes_the_middle_of_each_block():
    target = torch.arange(8 * 12).reshape(1, 8, 12)
    found = coarser(target, (4, 3))
    assert found.shape == (1, 4, 3)
    assert found[0].tolist() == [[(2 * i + 1) * 12 + 4 * j + 2 for j in range(3)] for i in range(4)]
    assert coarser(target, (8, 12)) is target
    assert coarser(target[:, :7], (4, 12))[0, -1].tolist() == target[0, 6].tolist()


def test_dice_of_a_batch_is_not_the_mean_of_samples():
    y = torch.zeros(2, 1, 4, 4)
    y[0, 0, 0, 0] = 1
    y[1] = 1
    p = y.clone()
    p[0] = 0
    # sample by sample one half is missed; over the batch one voxel in 17
    assert dice_loss(dice_sums(p, y)).item() == pytest.approx(0.5, abs=1e-4)
    assert dice_loss(dice_sums(p, y), batch=True).item() == pytest.approx(1 - 32 / 33, abs=1e-4)
