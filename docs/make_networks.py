"""Writes `docs/networks.md`: what each network is, its parameters, operations and receptive field as it counts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from src_models.networks.network import Network, count_parameters
from src_models.networks.zoo import NAMES, build

PAGE = Path(__file__).with_name("networks.md")
CHANNELS, CLASSES = 1, 2
SHAPES = {2: (256, 256), 3: (128, 128, 128)}

HEADING = """# Networks

Written by `make docs` from the networks themselves: do not edit.

Each is built by name, in 2D and in 3D, and takes images of any size: the far ends are padded by repetition, the result
is cut back. Norms, widths and whatever else may be chosen are options; the tables show the defaults.

```python
import torch
from src_models.networks.zoo import build

net = build("attention-unet", in_channels=1, num_classes=2, ndim=3, base_width=4).eval()
with torch.no_grad():
    out = net.forward_full(torch.zeros(1, 1, 20, 33, 17))
assert out.logits.shape == (1, 2, 20, 33, 17)
assert out.attention[1].shape == (1, 1, 5, 9, 5), "the map of level 1 has a voxel for every four"
```

- The three FCNs are trained in turn: `fcn16s.init_from(fcn32s)`, then `fcn8s.init_from(fcn16s)`. A fresh skip is
  silent, so each begins with what the one before has learned.
- Maps of `attention-unet` belong to the next coarser grid: with stride s (`attention_strides`) a map is a layer of s
  times the voxel size whose first voxel lies at (s - 1) / 2 voxels.
- `vnet` with `preset="monai"` takes the weights of MONAI's VNet: `weights_from_monai` in
  `src_models/networks/vnet.py` renames them.
- The [level set network](lsn.md) `lsn` has a start, levels and a click of its own.
- In 3D the networks on VGG-16 (FCN, DeconvNet, the full SegNet) have a quarter of the widths of 2D.
"""


class Entry(NamedTuple):
    """A row: name in the zoo, what it is, where it was published, and the preset where it is not the default."""

    name: str
    what: str
    paper: str
    preset: str = ""

    @property
    def title(self) -> str:
        """Name, and what sets it apart."""
        return f"`{self.name}`" + (f", preset `{self.preset}`" if self.preset else "")


ENTRIES = (
    Entry(
        "fcn32s",
        "VGG-16 with its fully connected layers as convolutions; class scores at 1/32 of the size, enlarged at once",
        "Shelhamer, Long, Darrell, IEEE TPAMI 2017",
    ),
    Entry("fcn16s", "FCN-32s with the scores of pool 4 added at 1/16", "Shelhamer, Long, Darrell, IEEE TPAMI 2017"),
    Entry("fcn8s", "FCN-16s with the scores of pool 3 added at 1/8", "Shelhamer, Long, Darrell, IEEE TPAMI 2017"),
    Entry(
        "deconvnet",
        "VGG-16 and its mirror image of transposed convolutions; unpooling puts values back where pooling found them",
        "Noh, Hong, Han, ICCV 2015",
    ),
    Entry(
        "segnet",
        "13 + 13 convolutions without fully connected layers; only the places of the maxima cross to the decoder",
        "Badrinarayanan, Kendall, Cipolla, IEEE TPAMI 2017",
    ),
    Entry(
        "segnet",
        "the small variant: 4 levels of one 7-wide convolution each",
        "Badrinarayanan, Kendall, Cipolla, IEEE TPAMI 2017",
        "basic",
    ),
    Entry(
        "unet",
        "encoder and decoder whose levels of equal size are joined by concatenated features",
        "Ronneberger, Fischer, Brox, MICCAI 2015; Çiçek et al., MICCAI 2016",
    ),
    Entry(
        "unet-paper",
        "the small UNet whose 14,608 kernels are compared with the level set equation",
        "Actor, Fuentes, Rivière, SPIE Medical Imaging 2020",
    ),
    Entry(
        "vnet",
        "residual stages of 5-wide convolutions; strided and transposed convolutions change the size",
        "Milletari, Navab, Ahmadi, 3DV 2016",
    ),
    Entry(
        "vnet",
        "VNet as MONAI builds it, for weights from there",
        "Cardoso et al., arXiv 2211.02701",
        "monai",
    ),
    Entry(
        "attention-unet",
        "UNet whose skips pass gates that coarser features open and close, with the maps of the gates as output",
        "Oktay et al., MIDL 2018",
    ),
    Entry(
        "nnunet",
        "the plain network of nnU-Net: strided convolutions, instance norm, leaky ReLU, scores at every stage",
        "Isensee et al., Nature Methods 2021",
    ),
    Entry(
        "nnunet-residual",
        "nnU-Net with a residual encoder, its blocks 1-3-4-6-6-6",
        "Isensee et al., MICCAI 2024",
    ),
    Entry(
        "lsn",
        "ten steps of the level set equation whose kernels are learned; begun with finite differences it is the solver",
        "Actor, Fuentes, Rivière, SPIE Medical Imaging 2020",
    ),
)


def _built(entry: Entry, ndim: int) -> Network:
    """With shapes but without numbers: nothing is computed and little memory taken."""
    options = {"preset": entry.preset} if entry.preset else {}
    with torch.device("meta"):
        return build(entry.name, CHANNELS, CLASSES, ndim, **options)


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e8 else f"{count / 1e6:.1f} M"


def _billions(count: int) -> str:
    return f"{count / 1e9:,.0f}" if count >= 1e11 else f"{count / 1e9:.3g}"


def _side(network: Network) -> str:
    """Largest receptive field per axis; one number where all are equal."""
    size = network.receptive_field().size
    return str(size[0]) if len(set(size)) == 1 else " x ".join(map(str, size))


def _row(entry: Entry) -> str:
    networks = {ndim: _built(entry, ndim) for ndim in SHAPES}
    costs = {ndim: network.forecast(SHAPES[ndim]) for ndim, network in networks.items()}
    cells = [entry.title, f"{entry.what} ({entry.paper})"]
    cells += [_millions(count_parameters(network)) for network in networks.values()]
    cells += [_billions(cost.forward_flops) for cost in costs.values()]
    cells += [_side(network) for network in networks.values()]
    return "| " + " | ".join(cells) + " |"


def _options(name: str) -> str:
    """All options of a network with their defaults, as they stand in its description."""
    with torch.device("meta"):
        chosen = build(name, CHANNELS, CLASSES, 2).options.model_dump(mode="json")
    words = [f"`{key}={'None' if value is None else _short(value)}`" for key, value in chosen.items()]
    return f"| `{name}` | {' '.join(words)} |"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(_short(part) for part in value) + ")"
    return str(value)


def page() -> str:
    """The whole page as text."""
    shapes = {ndim: " x ".join(map(str, shape)) for ndim, shape in SHAPES.items()}
    lines = [
        HEADING,
        "## Sizes",
        "",
        f"For {CHANNELS} input channel and {CLASSES} classes. GFLOP: 1e9 multiplications and additions of the",
        f"convolutions in one forward pass over {shapes[2]} pixels or {shapes[3]} voxels.",
        "Receptive field: voxels along each axis that one voxel of the result depends on, where it is largest in the",
        "stride grid; instance norm adds the mean and the variance of the whole window.",
        "",
        "| network | what it is | parameters 2D | 3D | GFLOP 2D | 3D | receptive field 2D | 3D |",
        "| --- " * 8 + "|",
        *(_row(entry) for entry in ENTRIES),
        "",
        "## Options",
        "",
        "By name in `build(name, ..., option=value)`; `None` follows the dimension. An unknown option is refused with",
        "the nearest known one.",
        "",
        "| network | options and their defaults |",
        "| --- | --- |",
        *(_options(name) for name in NAMES),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
