"""How images are brought to what a network was trained on; kept in a training plan and in the card of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Normalisation = Literal["ct", "zscore", "nonorm", "rescale_to_0_1", "rgb_to_0_1"]


class ChannelStatistics(BaseModel):
    """Intensities inside the labels over all training cases, each case of equal weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


class Channel(BaseModel):
    """One input channel.

    `window`: grey values are clipped to it first, in images that reach below it. A network trained on 8-bit slices of a
    CT so takes the CT itself, and pictures of any other scale stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "image"
    normalisation: Normalisation = "zscore"
    statistics: ChannelStatistics | None = None
    window: tuple[float, float] | None = None


class Preprocessing(BaseModel):
    """Crop to the nonzero part, normalise each channel, resample: in this order.

    `spacing` is the target in `unit` per array axis (z, y, x) of the image, without the axis across slices for a 2D
    network on volumes; None leaves voxels as they are, as for pictures without a size. `axis_order` brings the axes
    into the order of the network: coarsest first. `pixel_mm` is about what a pixel of training pictures without a size
    was, for images that have one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[Channel, ...] = (Channel(),)
    spacing: tuple[float, ...] | None = None
    unit: Literal["mm", "px"] = "mm"
    pixel_mm: float | None = Field(None, gt=0)
    axis_order: tuple[int, ...] | None = None
    crop_to_nonzero: bool = True
    use_mask_for_norm: bool = False
    order_image: int = Field(3, ge=0, le=5)
    order_labels: int = Field(1, ge=0, le=5)
    order_logits: int = Field(1, ge=0, le=5)
    keep_slice_distance: bool = Field(False, description="A 2D network on volumes: slices keep their distance.")

    def for_unit(self, unit: str) -> Preprocessing:
        """The same for images whose spacing is in a unit: pixels become mm where their size is about known.

        Where it is not, voxels are left as they are: 1 pixel is not 1 mm, neither for the training nor for the image.
        """
        if self.unit == unit:
            return self
        if self.unit == "mm":
            return self.model_copy(update={"spacing": None, "unit": "px"})
        known = None if self.pixel_mm is None else tuple(self.pixel_mm * side for side in self.spacing or (1.0, 1.0))
        return self.model_copy(update={"spacing": known, "unit": "px" if known is None else "mm"})
