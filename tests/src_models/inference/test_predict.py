"""Prediction with networks of known effect: what goes in comes out, on the grid of the image, whatever its size."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import resize

from src_models.errors import InputError
from src_models.inference.checks import warnings_for
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import choose_precision
from src_models.inference.predict import predict, predict_series
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.progress import finish
from src_models.training.validation import predict_logits
from src_models.weights.card import Label
from tests.src_models.inference.nets import Pointwise, Smooth, model, run, stacked

RNG = np.random.default_rng(5)


def identity(classes: int, ndim: int) -> Pointwise:
    return Pointwise(classes, ndim, lambda x: x, channels=classes)


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((21, 30, 17), (8, 16, 9)),
        ((5, 40, 33), (16, 16, 16)),  # below the window along one axis
        ((1, 7, 3), (4, 8, 8)),
        ((37, 41), (16, 24)),
        ((3, 2), (16, 16)),
    ],
)
def test_an_identity_network_gives_back_its_input(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    """Weights cancel, padding goes away: probabilities are those of the input, to the rounding of their float16."""
    ndim = len(shape)
    image = RNG.normal(size=(3, *shape)).astype(np.float32)

    result = run(model(identity(3, ndim), patch, channels=3), image, (1.0,) * ndim, probabilities=True)

    np.testing.assert_array_equal(result.labels, image.argmax(0))
    np.testing.assert_allclose(result.probabilities, torch.softmax(torch.from_numpy(image), 0), atol=3e-4)
    assert result.complete


def test_logits_on_another_grid_are_those_of_scikit_image() -> None:
    """The export is linear interpolation with half-pixel centres, as `skimage.transform.resize`, then argmax."""
    coarse = RNG.normal(size=(4, 9, 12, 10)).astype(np.float32)
    fine = (31, 25, 33)
    # a network whose logits are the coarse field, wherever its windows lie
    spacing = tuple(m / n * 1.0 for m, n in zip(coarse.shape[1:], fine, strict=True))
    image = np.stack([resize(c, fine, order=0, mode="edge") for c in coarse]).astype(np.float32)
    net = model(identity(4, 3), (4, 8, 5), spacing=(1.0, 1.0, 1.0), channels=4, order_image=0)

    result = run(net, image, spacing)

    wanted = np.stack([resize(c, fine, order=1, mode="edge", anti_aliasing=False) for c in coarse]).argmax(0)
    assert (result.labels == wanted).mean() > 0.9999


def test_the_axis_of_the_sweep_does_not_matter() -> None:
    """Transposed image, spacing and axis order give the transposed result."""
    torch.manual_seed(1)
    image = RNG.normal(size=(14, 40, 25)).astype(np.float32)
    spacing, target, patch = (2.0, 1.0, 1.0), (1.8, 1.3, 1.1), (8, 16, 12)
    net = build("unet", 1, 3, 3, base_width=4, depth=2)
    straight = run(model(net, patch, spacing=target), image, spacing).labels

    order = (2, 0, 1)
    turned = run(
        model(net, patch, spacing=[target[k] for k in order], axis_order=tuple(order.index(k) for k in range(3))),
        image.transpose(order),
        [spacing[k] for k in order],
    ).labels

    assert (turned == straight.transpose(order)).mean() > 0.9999


def test_ties_go_to_the_lower_class_as_in_argmax() -> None:
    image = RNG.integers(0, 2, size=(12, 12)).astype(np.float32)
    net = Pointwise(3, 2, stacked(lambda x: x * 0, lambda x: x, lambda x: x))

    labels = run(model(net, (8, 8)), image, (1.0, 1.0)).labels

    np.testing.assert_array_equal(labels, image)  # 0 where all tie, 1 where 1 and 2 tie


def test_a_network_that_gives_nan_is_an_error_and_never_a_label() -> None:
    net = Pointwise(2, 2, stacked(lambda x: x, lambda x: torch.where(x > 1, torch.nan, x)))

    with pytest.raises(InputError, match="not numbers"):
        run(model(net, (8, 8)), RNG.normal(size=(16, 16)) * 2, (1.0, 1.0))


def test_logits_beyond_half_precision_are_summed_rightly() -> None:
    """Weighted sums of logits of 30,000 overflow fp16, whose largest number is 65,504."""
    net = Pointwise(2, 2, stacked(lambda x: x * 3e4, lambda x: -x * 3e4))
    image = RNG.normal(size=(30, 30)).astype(np.float32)

    np.testing.assert_array_equal(run(model(net, (8, 8)), image, (1.0, 1.0)).labels, image < 0)


def test_a_2d_network_takes_a_volume_slice_by_slice() -> None:
    torch.manual_seed(2)
    net = build("unet", 1, 2, 2, base_width=4, depth=2)
    volume = RNG.normal(size=(4, 30, 28)).astype(np.float32)
    one = model(net, (16, 16), spacing=(1.2, 1.2))

    done = run(one, volume, (5.0, 1.0, 1.0))
    together = done.labels

    assert done.record.result["windows"] == 4 * run(one, volume[0], (1.0, 1.0)).record.result["windows"]
    for z, each in enumerate(volume):
        np.testing.assert_array_equal(together[z], run(one, each, (1.0, 1.0)).labels)


def test_labels_carry_the_numbers_of_the_card() -> None:
    values = (0, 7, 300)
    labels = tuple(Label(name=str(v), value=v, channel=k) for k, v in enumerate(values))
    image = RNG.normal(size=(3, 20, 20)).astype(np.float32)

    result = run(model(identity(3, 2), (16, 16), channels=3, labels=labels), image, (1.0, 1.0))

    np.testing.assert_array_equal(result.labels, np.array(values)[image.argmax(0)])


def test_regions_are_painted_in_the_order_of_the_card() -> None:
    """Whole, core, enhancing: later regions cover earlier ones; background is where none is above one half."""
    labels = (
        Label(name="whole", value=1, channel=0, members=(1, 2, 3)),
        Label(name="core", value=2, channel=2, members=(2, 3)),
        Label(name="enhancing", value=3, channel=1, members=(3,)),
    )
    image = RNG.normal(size=(3, 20, 20)).astype(np.float32)

    result = run(model(identity(3, 2), (16, 16), channels=3, labels=labels, head="sigmoid"), image, (1.0, 1.0))

    wanted = np.zeros((20, 20), int)
    for value, channel in ((1, 0), (2, 2), (3, 1)):
        wanted[image[channel] > 0] = value
    np.testing.assert_array_equal(result.labels, wanted)


def test_the_mean_of_folds_and_their_disagreement() -> None:
    image = RNG.normal(size=(20, 22)).astype(np.float32)
    up = Pointwise(2, 2, stacked(lambda x: 0 * x, lambda x: x + 2))
    down = Pointwise(2, 2, stacked(lambda x: 0 * x, lambda x: x - 2))

    result = run([model(up, (8, 8)), model(down, (8, 8))], image, (1.0, 1.0), disagreement=True, probabilities=True)

    p, q = (1 / (1 + np.exp(-(image + s))) for s in (2, -2))
    np.testing.assert_allclose(result.disagreement, (p - q) / 2, atol=1e-3)
    np.testing.assert_allclose(result.probabilities[1], 1 / (1 + np.exp(-image)), atol=1e-3)
    np.testing.assert_array_equal(result.labels, image > 0)


def test_a_mirrored_network_and_a_mirrored_image_undo_each_other() -> None:
    """The mean over all mirrored images commutes with mirroring."""
    torch.manual_seed(3)
    net = build("unet", 1, 2, 3, base_width=4, depth=2)
    image = RNG.normal(size=(16, 16, 16)).astype(np.float32)
    one = model(net, (16, 16, 16), mirror_axes=(0, 2))

    straight = run(one, image, (1.0,) * 3, mirror="all", probabilities=True).probabilities
    flipped = run(one, image[::-1, :, ::-1], (1.0,) * 3, mirror="all", probabilities=True).probabilities

    np.testing.assert_allclose(flipped[:, ::-1, :, ::-1], straight, atol=1e-3)


def test_entropy_of_equal_and_of_certain_classes() -> None:
    net = Pointwise(4, 2, lambda x: torch.cat([x, 0 * x, 0 * x, 0 * x], 1))
    image = np.zeros((8, 8), np.float32)
    image[:, 4:] = 30

    entropy = run(model(net, (8, 8)), image, (1.0, 1.0), entropy=True).entropy

    np.testing.assert_allclose(entropy[:, :4], 1, atol=1e-3)
    np.testing.assert_allclose(entropy[:, 4:], 0, atol=1e-3)


def test_windows_of_one_value_are_background_and_counted() -> None:
    image = np.zeros((16, 64), np.float32)
    image[:, :10] = RNG.normal(size=(16, 10))
    net = Pointwise(2, 2, stacked(lambda x: 0 * x, lambda x: 0 * x + 1))

    skipped = run(model(net, (16, 16)), image, (1.0, 1.0))
    all_of_it = run(model(net, (16, 16)), image, (1.0, 1.0), skip="none")

    assert (all_of_it.labels == 1).all()
    assert (skipped.labels[:, :16] == 1).all()
    assert not skipped.labels[:, 24:].any()
    assert any("skipped" in note for note in skipped.notes)
    assert skipped.record.result["skipped"] == 5


def test_a_constant_image_is_background_with_a_warning() -> None:
    result = run(model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16)), np.full((20, 20), 3.0), (1.0, 1.0))

    assert not result.labels.any()
    assert any("one value" in note for note in result.notes)


def test_an_empty_result_names_the_largest_probability() -> None:
    net = Pointwise(2, 2, stacked(lambda x: 0 * x + 3, lambda x: x))
    image = np.clip(RNG.normal(size=(20, 20)), -1, 2).astype(np.float32)

    notes = run(model(net, (16, 16)), image, (1.0, 1.0)).notes

    largest = 1 / (1 + np.exp(3 - float(image.max())))
    assert any(f"{largest:.3g}" in note for note in notes)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((3, 16, 16), np.uint8), "3 channels"),
        (np.zeros((0, 16)), "empty"),
        (np.zeros((2, 3, 4, 16, 16)), "does not fit"),
        (np.array([[1.0, np.nan], [np.inf, 0]]), "2 voxels"),
    ],
)
def test_bad_images_are_refused_in_one_sentence(image: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        run(model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16)), image, (1.0, 1.0))

    assert "\n" not in str(error.value)


def test_missing_values_can_be_filled() -> None:
    image = RNG.normal(size=(16, 16)).astype(np.float32)
    holed, filled = image.copy(), image.copy()
    holed[3, 4], filled[3, 4] = np.nan, np.delete(image.ravel(), 3 * 16 + 4).min()
    net = Pointwise(2, 2, stacked(lambda x: 0 * x, lambda x: x))

    result = run(model(net, (8, 8)), holed, (1.0, 1.0), nan="fill")

    np.testing.assert_array_equal(result.labels, run(model(net, (8, 8)), filled, (1.0, 1.0)).labels)
    assert any("filled" in note for note in result.notes)


def test_a_stopped_prediction_gives_what_is_finished() -> None:
    image = np.abs(RNG.normal(size=(64, 8, 8))).astype(np.float32) + 1
    net = Pointwise(2, 3, stacked(lambda x: 0 * x, lambda x: x))
    work = predict(model(net, (8, 8, 8)), image, (1.0,) * 3, PredictionParameters())

    finished = 0
    for step in work:
        finished = step.slab[1] if step.slab else finished
        if finished >= 20:
            break
    work.close()
    partial = step.result()

    assert partial.record.status == "partial"
    assert not partial.complete
    assert (partial.labels[:finished] == 1).all()
    assert not partial.labels[finished:].any()


def test_interrupt_ends_in_the_middle_of_a_window() -> None:
    asked: list[int] = []
    net = build("unet", 1, 2, 2, base_width=4, depth=2)

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    result = finish(predict(model(net, (16, 16)), RNG.normal(size=(40, 40)), (1.0, 1.0), interrupt=stop))

    assert len(asked) == 4
    assert result.record.status == "partial"


def test_a_series_is_predicted_frame_by_frame() -> None:
    frames = RNG.normal(size=(3, 20, 20)).astype(np.float32)
    net = model(Pointwise(2, 2, stacked(lambda x: 0 * x, lambda x: x)), (8, 8))

    result = finish(predict_series(net, frames, (1.0, 1.0)))

    np.testing.assert_array_equal(result.labels, frames > 0)


def test_a_ct_from_a_file_is_known_by_its_air() -> None:
    """Files do not say that they hold Hounsfield units; no MR is as dark as air."""
    image = RNG.normal(40, 10, size=(16, 16))
    image[:3] = -1000
    shape, spacing = image.shape, (1.0, 1.0)
    mr = model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16), modality="MR").card
    ct = mr.model_copy(update={"modality": "CT"})

    assert any("trained on MR" in note for note in warnings_for(mr, shape, spacing, image=image))
    assert not warnings_for(ct, shape, spacing, image=image)
    assert not warnings_for(mr, shape, spacing, image=image.clip(0))


def test_values_outside_those_that_the_model_takes_are_told() -> None:
    net = model(identity(2, 2), (16, 16), channels=1)
    channel = Channel(name="CT", normalisation="zscore", window=(0.0, 255.0))
    card = net.card.model_copy(update={"preprocessing": Preprocessing(channels=(channel,))})
    net = replace(net, card=card)
    dark = RNG.normal(-700, 50, size=(16, 16))

    told = " ".join(run(net, dark, (1.0, 1.0)).notes)
    flat = " ".join(run(net, np.full((16, 16), 3.0), (1.0, 1.0)).notes)

    assert "takes those from 0 to 255" in told
    assert "Among the values that the model takes the image holds one value only" in told
    assert "The image holds one value only" in flat


def test_an_image_of_another_modality_or_size_is_warned_about() -> None:
    net = model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16), spacing=(1.0, 1.0), modality="MR")
    work = predict(net, RNG.normal(size=(16, 16)), (4.0, 4.0), value_unit="HU")

    notes = next(work).notes
    work.close()

    assert any("trained on MR" in note for note in notes)
    assert any("factor 3" in note for note in notes)


def test_a_model_of_pictures_takes_a_ct_where_it_knows_about_how_large_its_pixels_were() -> None:
    image = np.random.default_rng(2).random((40, 48)).astype(np.float32)
    network = Pointwise(2, 2, lambda x: torch.cat([0.5 - x, x - 0.5], 1))
    pictures = model(network, (16, 16), spacing=(2.0, 2.0))
    sized = [
        replace(pictures, card=pictures.card.model_copy(update={"preprocessing": pictures.card.preprocessing.model_copy(
            update={"unit": "px", "pixel_mm": size})}))
        for size in (None, 0.75)
    ]  # fmt: skip
    unknown, known = (finish(predict(one, image, (0.75, 0.75))) for one in sized)
    np.testing.assert_array_equal(unknown.labels, image > 0.5)
    assert any("cannot be matched" in note for note in unknown.notes)
    in_pixels = finish(predict(sized[1], image, (1.0, 1.0), unit="px"))
    np.testing.assert_array_equal(known.labels, in_pixels.labels)
    assert (known.labels != unknown.labels).any()
    assert not known.notes


def test_a_crop_to_the_nonzero_part_comes_back_in_its_place() -> None:
    image = np.zeros((30, 32, 28), np.float32)
    image[5:20, 10:31, 3:9] = RNG.normal(size=(15, 21, 6))
    net = Pointwise(2, 3, stacked(lambda x: 0 * x, lambda x: x))

    result = run(model(net, (8, 8, 8), crop=True), image, (1.0,) * 3)

    np.testing.assert_array_equal(result.labels, image > 0)


def test_the_record_says_which_model() -> None:
    one = model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16))
    one = replace(one, card=one.card.model_copy(update={"sha256": "ab" * 32}))

    record = run(one, RNG.normal(size=(16, 16)), (1.0, 1.0)).record

    assert record.inputs["models"][0]["sha256"] == "ab" * 32
    assert record.source is not None


def test_attention_maps_are_those_of_the_network() -> None:
    """One window over the whole image: the map of each level, brought to the image's grid by linear interpolation."""
    torch.manual_seed(6)
    net = build("attention-unet", 1, 2, 2).eval()
    image = RNG.normal(size=(64, 64)).astype(np.float32)

    result = run(model(net, (64, 64)), image, (1.0, 1.0), attention=True)

    with torch.inference_mode():
        maps = net.forward_full(torch.from_numpy(image)[None, None]).attention
    assert set(result.attention) == set(maps)
    for level, each in maps.items():
        wanted = torch.nn.functional.interpolate(each, size=(64, 64), mode="bilinear")[0, 0].numpy()
        np.testing.assert_allclose(result.attention[level], wanted, atol=2e-3)


def test_attention_maps_of_mirrored_images_are_mirrored_back() -> None:
    torch.manual_seed(6)
    net = build("attention-unet", 1, 2, 2, levels=3, base_width=4).eval()
    image = RNG.normal(size=(32, 32)).astype(np.float32)

    one = model(net, (32, 32), mirror_axes=(1,))
    both = run(one, image, (1.0, 1.0), attention=True, mirror="all").attention[1]
    plain = run(one, image, (1.0, 1.0), attention=True).attention[1]
    other = run(one, image[:, ::-1].copy(), (1.0, 1.0), attention=True).attention[1][:, ::-1]

    assert np.abs(plain - other).max() > 0.01
    np.testing.assert_allclose(both, (plain.astype(float) + other) / 2, atol=2e-3)


def test_a_small_image_lies_in_the_middle_of_the_window_as_in_training() -> None:
    torch.manual_seed(2)
    net = Smooth(2, 3).eval()
    image = RNG.normal(size=(13, 18)).astype(np.float32)

    found = run(model(net, (24, 24)), image, (1.0, 1.0), probabilities=True, precision="fp32").probabilities

    logits = predict_logits(net, image[None], (24, 24), torch.device("cpu"))
    np.testing.assert_allclose(found, logits.softmax(0).numpy(), atol=1e-3)


def test_the_distance_of_slices_is_not_compared_whichever_axis_they_lie_along() -> None:
    net = model(build("unet", 1, 2, 2, base_width=4, depth=2), (16, 16), spacing=(1.0, 1.0), axis_order=(1, 0, 2))
    assert not warnings_for(net.card, (9, 9, 9), (1.0, 8.0, 1.0))
    assert any("factor 3" in note for note in warnings_for(net.card, (9, 9, 9), (8.0, 1.0, 1.0)))


def test_half_precision_on_a_processor_is_used_only_where_it_is_faster() -> None:
    cpu = torch.device("cpu")

    def slow_in(kind: torch.dtype) -> Callable[[torch.dtype], None]:
        return lambda wanted: time.sleep(0.02 if wanted == kind else 0.0)

    assert choose_precision("bf16", cpu, slow_in(torch.bfloat16)) == torch.float32
    assert choose_precision("bf16", cpu, slow_in(torch.float32)) == torch.bfloat16
    assert choose_precision("auto", cpu, slow_in(torch.float32)) == torch.float32


def test_two_predictions_at_once_do_not_disturb_each_other() -> None:
    torch.manual_seed(7)
    one = model(build("unet", 1, 3, 2, base_width=4, depth=2), (16, 16))
    images = [RNG.normal(size=(40, 44)).astype(np.float32) for _ in range(4)]
    alone = [run(one, image, (1.0, 1.0)).labels for image in images]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda image: run(one, image, (1.0, 1.0)).labels, images))

    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_background_may_be_any_channel() -> None:
    """What lies outside the crop, or is skipped, is the label 0 wherever it stands in the logits."""
    labels = (Label(name="organ", value=5, channel=0), Label(name="background", value=0, channel=1))
    image = np.zeros((16, 64), np.float32)
    image[:, :10] = RNG.normal(size=(16, 10))
    net = Pointwise(2, 2, stacked(lambda x: 0 * x + 2, lambda x: 0 * x))

    result = run(model(net, (16, 16), labels=labels), image, (1.0, 1.0), probabilities=True)

    assert (result.labels[:, :16] == 5).all()
    assert not result.labels[:, 24:].any()
    np.testing.assert_allclose(result.probabilities[1][:, 32:], 1, atol=1e-3)
