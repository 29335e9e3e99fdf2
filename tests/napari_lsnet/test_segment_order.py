"""A model that sees images as they lie in their files gets them so from the viewer too: whole, cut out, one slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from napari.components import ViewerModel

from napari_lsnet.layers import layer_arguments
from napari_lsnet.model_list import model_in
from napari_lsnet.network_image import space_seen
from napari_lsnet.segment.replay_text import IMAGE_PLACEHOLDER, as_python
from napari_lsnet.segment.request import read_request
from src_models.files import read_volume
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Preprocessing
from src_models.progress import finish
from src_models.weights import store
from src_models.weights.card import Label, ModelCard
from tests.turned import store as store_scan

PARAMETERS = PredictionParameters(device="cpu", precision="fp32", skip="none")
BOX = (slice(3, 30), slice(5, 40), slice(2, 31))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small 2D network with random weights: for it, every way round is another image."""
    torch.manual_seed(3)
    network = build("unet", 1, 3, 2, base_width=4, depth=2)
    card = ModelCard(
        name="unet-turned-2d",
        network=network.config,
        ndim=2,
        orientation="stored",
        preprocessing=Preprocessing(crop_to_nonzero=False, keep_slice_distance=True),
        patch=(32, 32),
        labels=tuple(Label(name=f"c{k}", value=k, channel=k) for k in range(3)),
    )
    folder = tmp_path_factory.mktemp("turned")
    store.save(network, card, folder)
    return next(folder.glob("*.safetensors"))


@pytest.mark.parametrize(("mode", "box"), [("volume", None), ("volume", BOX), ("slice", None)])
def test_the_viewer_shows_it_to_the_network_as_the_file_does(model, tmp_path, mode, box) -> None:
    path = store_scan("PSR", tmp_path / "scan.nii.gz")
    volume = read_volume(path)
    viewer = ViewerModel()
    layer = viewer.add_image(volume.array, **layer_arguments(volume))
    viewer.dims.set_current_step(0, 14)
    request = read_request(layer, viewer.dims, mode, box, model_in(model), PARAMETERS)
    made = finish(request.make())
    array = volume.array[14] if mode == "slice" else volume.array if box is None else volume.array[box]
    kept = [1, 2] if mode == "slice" else [0, 1, 2]
    order, spacing = volume.stored_order.of_axes(kept), tuple(volume.grid.spacing[k] for k in kept)
    expected = finish(predict(store.load(model), array, spacing, PARAMETERS, stored_order=order)).labels
    assert np.array_equal(made.labels, expected)
    unturned = finish(predict(store.load(model), array, spacing, PARAMETERS)).labels
    assert not np.array_equal(made.labels, unturned), "this network does not tell the ways round apart"
    seen = space_seen(request.choice.card, request.order, request.volume, request.region)
    assert seen == (order.store(array).shape, tuple(spacing[order.axes.index(k)] for k in range(len(kept))))
    session: dict = {}
    exec(compile(as_python(request).replace(IMAGE_PLACEHOLDER, str(path)), "copied", "exec"), session)
    assert np.array_equal(session["labels"], expected)


def test_a_layer_from_elsewhere_is_taken_as_it_is(model) -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.random.default_rng(0).random((6, 20, 22)), scale=(2, 1, 1), units="mm")
    request = read_request(layer, viewer.dims, "volume", None, model_in(model), PARAMETERS)
    assert request.order is None
    assert any("how this one lies is not known" in note for note in finish(request.make()).notes)
