"""Slab by slab gives what the whole image gives, without ever asking for more than a slab."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from src_models.errors import InputError, SaveError
from src_models.inference.chunked import open_array, predict_chunked
from src_models.inference.parameters import PredictionParameters
from src_models.inference.prepared import lay_out
from src_models.inference.slabs import SlabInput, fixed_normalisation, summarise
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing
from src_models.preprocessing.prepare import prepare
from src_models.progress import finish
from src_models.weights.model import Model
from tests.src_models.inference.nets import model, run

RNG = np.random.default_rng(9)


class Watched:
    """An array that notes how many planes it was asked for at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        part = self.array[key]
        self.most = max(self.most, part.shape[-3])
        return part


def tiny(ndim: int, **options) -> Model:  # type: ignore[no-untyped-def]
    torch.manual_seed(4)
    net = build("unet", 1, 3, ndim, base_width=4, depth=2)
    return model(net, (16,) * ndim, **options)


CASES = {
    "same grid": ((60, 24, 20), (1.0, 1.0, 1.0), tiny(3, normalisation="zscore")),
    "finer": ((40, 24, 20), (1.4, 1.0, 1.0), tiny(3, spacing=(1.0, 0.8, 0.9), normalisation="zscore", order_image=3)),
    "coarser": ((90, 30, 32), (0.6, 0.7, 0.8), tiny(3, spacing=(1.0,) * 3, normalisation="zscore", order_image=3)),
    "cropped": ((50, 30, 32), (1.0, 0.7, 0.8), tiny(3, spacing=(1.3, 1.0, 1.0), crop=True, order_image=1)),
    "thick slices": ((30, 24, 20), (5.0, 1.0, 1.0), tiny(3, spacing=(4.0, 1.2, 1.2), order_image=3)),
    "turned": ((40, 24, 28), (1.0, 1.0, 1.0), tiny(3, axis_order=(1, 2, 0), normalisation="rescale_to_0_1")),
    "2D network": ((20, 30, 24), (3.0, 1.0, 1.0), tiny(2, spacing=(1.2, 1.2), normalisation="zscore", order_image=3)),
}


@pytest.mark.parametrize("name", CASES)
def test_slabs_give_what_the_whole_gives(name: str, tmp_path: Path) -> None:
    shape, spacing, one = CASES[name]
    image = RNG.normal(size=shape).astype(np.float32)
    if name == "cropped":
        image[:7] = image[40:] = image[:, :4] = image[:, :, 25:] = 0
    source = zarr.create_array(str(tmp_path / "in.zarr"), shape=shape, chunks=(8, 16, 16), dtype="f4")
    source[:] = image

    done = finish(predict_chunked(one, source, spacing, tmp_path / "out.zarr"))

    labels, own, known = open_array(done.path)
    assert known
    assert own == spacing
    whole = run(one, image, spacing).labels
    assert whole.any()
    assert (labels[:] == whole).mean() > 0.999


@pytest.mark.parametrize("normalisation", ["zscore", "rescale_to_0_1", "nonorm", "ct"])
@pytest.mark.parametrize("window", [None, (10.0, 200.0)])
@pytest.mark.parametrize("lowest", [-900.0, 60.0])
def test_slabs_are_normalised_as_the_whole(normalisation: str, window: tuple[float, float] | None, lowest: float):
    """Values all above 0 in a margin of zeros, or a CT with a window: what counts is the box, clipped."""
    image = np.zeros((1, 30, 16, 18), np.float32)
    image[:, 6:25, 3:14, 4:16] = RNG.uniform(lowest, 400, (19, 11, 12))
    known = ChannelStatistics(
        mean=80, median=80, std=40, minimum=0, maximum=300, percentile_00_5=-50, percentile_99_5=500
    )
    channel = Channel(normalisation=normalisation, window=window, statistics=known)
    pre = Preprocessing(channels=(channel,), spacing=(1.3, 0.8, 1.1))
    expected = prepare(image, (1.0, 1.0, 1.0), pre)
    card = tiny(3).card.model_copy(update={"preprocessing": pre})

    summary = finish(summarise(image[0], 7, True, [window]))
    layout = lay_out(expected.way, card, along=0)
    slabs = SlabInput(image[0], expected.way, layout, fixed_normalisation(pre, summary))

    assert summary.box == expected.way.box
    whole = slabs[(slice(None), *(slice(0, n) for n in layout.padded))]
    inner = tuple(slice(b, b + n) for b, n in zip(layout.before, layout.coarse, strict=True))
    np.testing.assert_allclose(whole[(slice(None), *inner)], expected.array, rtol=1e-4, atol=1e-4)


def test_never_more_than_a_slab_is_read(tmp_path: Path) -> None:
    watched = Watched(RNG.normal(size=(200, 16, 16)).astype(np.float32))
    watched.chunks = (10, 16, 16)  # type: ignore[attr-defined]

    finish(predict_chunked(tiny(3), watched, (1.0,) * 3, tmp_path / "out.zarr"))

    assert watched.most <= 16


def test_cancel_leaves_nothing(tmp_path: Path) -> None:
    work = predict_chunked(tiny(3), RNG.normal(size=(60, 20, 20)), (1.0,) * 3, tmp_path / "out.zarr")
    for step in work:
        if step.tile > 3:
            break
    work.close()

    assert list(tmp_path.iterdir()) == []


def test_parts_that_the_card_would_take_away_are_spoken_of(tmp_path: Path) -> None:
    one = tiny(3, inference={"keep_largest": [[1]]})
    image = RNG.normal(size=(20, 20, 20))

    said = finish(predict_chunked(one, image, (1.0,) * 3, tmp_path / "a.zarr")).notes
    plain = PredictionParameters(post="none")
    asked = finish(predict_chunked(one, image, (1.0,) * 3, tmp_path / "b.zarr", plain)).notes

    assert any("largest part" in note for note in said)
    assert not any("largest part" in note for note in asked)


def test_what_needs_the_whole_image_is_refused(tmp_path: Path) -> None:
    work = predict_chunked(
        tiny(3), np.ones((20, 20, 20)), (1.0,) * 3, tmp_path / "out.zarr", PredictionParameters(entropy=True)
    )
    with pytest.raises(InputError, match="entropy"):
        next(work)


def test_an_older_result_stays(tmp_path: Path) -> None:
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(SaveError, match="exists"):
        next(predict_chunked(tiny(3), np.ones((20, 20, 20)), (1.0,) * 3, tmp_path / "out.zarr"))


def test_the_scale_of_an_ome_image_is_taken_in_mm(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("0", shape=(4, 5, 6), dtype="u2")
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]}],
        }
    ]

    array, spacing, known = open_array(tmp_path / "a.zarr")

    assert array.shape == (4, 5, 6)
    assert known
    assert spacing == pytest.approx((2e-3, 5e-4, 5e-4))
