"""DeconvNet (Noh, Hong, Han 2015): VGG-16 and its mirror image, with unpooling where the trunk pools.

Each pool remembers where its maxima stood; on the way up unpooling puts values back there and transposed convolutions
fill in what lies between. No skip carries features across, only places.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from src_models.networks.blocks import NormKind, conv, he_normal, normalisation
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.networks.unpool import Unpool, pool_with_indices
from src_models.networks.vgg import CONVS, fc_kernel, fc_width, fully_connected, stage_widths, trunk


class DeconvNetOptions(NetworkOptions):
    """Options of `DeconvNet`."""

    width: int | None = Field(None, ge=1, description="Channels of the first stage; empty: 64 in 2D, 16 in 3D.")
    fc_width: int | None = Field(
        None, ge=1, description="Channels of fc6 and fc7; empty: 64 (2D) or 32 (3D) times the first stage's."
    )
    norm: NormKind = "batch"
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of fc6 and fc7 left out in training.")


class DeconvNet(Network):
    """Trunk, fully connected middle and mirrored trunk of transposed convolutions.

    Parameters
    ----------
    in_channels, num_classes, ndim : int
        See `Network`.
    options : DeconvNetOptions
        Of the architecture.

    References
    ----------
    H. Noh, S. Hong, B. Han, Learning deconvolution network for semantic segmentation, ICCV 2015.
    """

    name = "deconvnet"
    Options = DeconvNetOptions
    options: DeconvNetOptions

    def __init__(self, in_channels: int, num_classes: int, ndim: int, options: DeconvNetOptions) -> None:
        super().__init__(in_channels, num_classes, ndim, options)
        self.stride = (2 ** len(CONVS),) * ndim
        widths, norm = stage_widths(ndim, options.width), options.norm
        wide = fc_width(ndim, options.width, options.fc_width)
        self.encoder = trunk(ndim, in_channels, widths, norm)
        self.fc = fully_connected(ndim, widths[-1], wide, options.dropout, norm)
        self.fc_mirrored = TransposedConv(ndim, wide, widths[-1], fc_kernel(ndim), norm)
        self.unpool = Unpool()
        finer = (widths[0], *widths[:-1])
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *(TransposedConv(ndim, width, width, 3, norm) for _ in range(convs - 1)),
                TransposedConv(ndim, width, last, 3, norm),
            )
            for width, last, convs in reversed(list(zip(widths, finer, CONVS, strict=True)))
        )
        self.score = conv(ndim, widths[0], num_classes, 1)
        he_normal(self, slope=0)

    def compute(self, x: Tensor) -> NetOutput:
        """See `Network`."""
        places: list[Tensor] = []
        for stage in self.encoder:
            x, place = pool_with_indices(stage(x))
            places.append(place)
        x = self.fc_mirrored(self.fc(x))
        for stage in self.decoder:
            x = stage(self.unpool(x, places.pop()))
        return NetOutput(self.score(x))


class TransposedConv(nn.Module):
    """Transposed convolution that keeps the size, then norm and ReLU.

    Parameters
    ----------
    ndim, inputs, outputs : int
        Axes and channels.
    kernel : int
        Odd.
    norm : {"instance", "batch", "none"}
        After the convolution.
    """

    def __init__(self, ndim: int, inputs: int, outputs: int, kernel: int, norm: NormKind) -> None:
        super().__init__()
        kind: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
        kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        self.conv = kind(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = normalisation(norm, ndim, outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of shape (B, outputs, *spatial)."""
        result: Tensor = self.act(self.norm(self.conv(x)))
        return result
