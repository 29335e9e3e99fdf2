"""Networks and models of known effect, so that what prediction does around them can be checked exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.inference.prediction import Prediction
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.progress import finish
from src_models.weights.card import Label, ModelCard
from src_models.weights.model import Model


class Pointwise(Network):
    """Logits are a function of the voxel alone: what comes out of prediction is known in closed form."""

    name = "pointwise"

    def __init__(self, classes: int, ndim: int, function: Callable[[Tensor], Tensor], channels: int = 1) -> None:
        super().__init__(channels, classes, ndim, NetworkOptions())
        self.function = function
        self.unused = nn.Parameter(torch.zeros(1))  # a network has weights

    def compute(self, x: Tensor) -> NetOutput:
        return NetOutput(self.function(x))


class Smooth(Network):
    """A strided chain of convolutions without normalisation, with a reach of several strides."""

    name = "smooth"

    def __init__(self, ndim: int, classes: int = 2) -> None:
        super().__init__(1, classes, ndim, NetworkOptions())
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        up = nn.ConvTranspose3d if ndim == 3 else nn.ConvTranspose2d
        pool = nn.MaxPool3d if ndim == 3 else nn.MaxPool2d
        self.stride = (4,) * ndim
        self.layers = nn.Sequential(
            conv(1, 4, 3, padding=1), nn.ReLU(), pool(2), conv(4, 4, 3, padding=1), nn.ReLU(), pool(2),
            conv(4, 4, 3, padding=1), up(4, 4, 4, 4), nn.ReLU(), conv(4, classes, 3, padding=1),
        )  # fmt: skip

    def compute(self, x: Tensor) -> NetOutput:
        return NetOutput(self.layers(x))


def model(
    network: Network,
    patch: Sequence[int],
    *,
    spacing: Sequence[float] | None = None,
    channels: int = 1,
    normalisation: Any = "nonorm",
    **card: Any,
) -> Model:
    """A model whose preprocessing changes nothing but the grid."""
    preprocessing = Preprocessing(
        channels=tuple(Channel(name=f"c{k}", normalisation=normalisation) for k in range(channels)),
        spacing=None if spacing is None else tuple(spacing),
        crop_to_nonzero=card.pop("crop", False),
        order_image=card.pop("order_image", 1),
        axis_order=card.pop("axis_order", None),
        keep_slice_distance=card.pop("keep", False),
    )
    labels = tuple(Label(name=str(k), value=k, channel=k) for k in range(network.num_classes))
    fields: dict[str, Any] = {"labels": labels} | card
    return Model(
        network.eval(),
        ModelCard(
            name="test",
            network=network.config,
            ndim=network.ndim,
            preprocessing=preprocessing,
            patch=tuple(patch),
            **fields,
        ),
    )


def run(models: Any, image: Any, spacing: Sequence[float], **parameters: Any) -> Prediction:
    return finish(predict(models, image, spacing, PredictionParameters(**parameters)))


def stacked(*parts: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Classes from functions of the image."""
    return lambda x: torch.cat([part(x) for part in parts], 1)
