"""Write tests/data/nnunet_networks.json: what nnU-Net's own network classes give for fixed weights.

They come in dynamic-network-architectures, which nnunetv2 needs; it brings timm and with it torchvision, so the tests
keep its answers instead of itself. In an environment that has it:

    python tests/peers/make_nnunet_networks.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import nn

TARGET = Path(__file__).parents[1] / "data" / "nnunet_networks.json"
EVERY = 7
"""One of so many values of an output is kept."""

CASES: dict[str, dict[str, Any]] = {
    "plain 2D": {
        "residual": False,
        "size": [16, 24],
        "arch": {
            "features_per_stage": [4, 6, 8, 8],
            "kernel_sizes": [[3, 3]] * 4,
            "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
            "n_conv_per_stage": [2, 2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2, 2],
        },
    },
    "plain 3D, thick slices": {
        "residual": False,
        "size": [4, 16, 16],
        "arch": {
            "features_per_stage": [4, 6, 8, 8],
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
            "n_conv_per_stage": [2, 2, 3, 2],
            "n_conv_per_stage_decoder": [2, 1, 2],
        },
    },
    "residual 2D": {
        "residual": True,
        "size": [16, 24],
        "arch": {
            "features_per_stage": [4, 6, 6, 8],
            "kernel_sizes": [[3, 3]] * 4,
            "strides": [[1, 1], [2, 2], [2, 2], [2, 2]],
            "n_blocks_per_stage": [1, 3, 2, 2],
            "n_conv_per_stage_decoder": [1, 1, 1],
        },
    },
    "residual 3D, wider without a stride": {
        "residual": True,
        "size": [4, 16, 16],
        "arch": {
            "features_per_stage": [4, 6, 8, 8],
            "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [1, 1, 1], [2, 2, 2]],
            "n_blocks_per_stage": [1, 2, 2, 2],
            "n_conv_per_stage_decoder": [1, 1, 2],
        },
    },
}
"""Two channels in, three classes out. In the last, a stage changes the channels without striding."""


def fixed(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers that follow from a name alone, the same on every machine; weights of norms stay near one."""
    phase = crc32(name.encode()) % 1000
    values = np.sin(phase + 1.7 * np.arange(int(np.prod(shape)))).reshape(shape)
    centre = 1.0 if name.endswith("norm.weight") else 0.0
    return torch.from_numpy(centre + 0.4 * values)


def drop_copies(names: list[str]) -> list[str]:
    """The published names without those under which the same tensors appear again."""
    return [name for name in names if "all_modules" not in name and "decoder.encoder." not in name]


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Names, shapes and outputs of one network of theirs."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    ndim = len(case["size"])
    kind = ResidualEncoderUNet if case["residual"] else PlainConvUNet
    theirs = kind(
        input_channels=2,
        num_classes=3,
        n_stages=4,
        conv_op=nn.Conv2d if ndim == 2 else nn.Conv3d,
        norm_op=nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        conv_bias=True,
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **case["arch"],
    )
    theirs = theirs.double().eval()  # so that the machine does not matter
    state = theirs.state_dict()
    kept = drop_copies(list(state))
    with torch.no_grad():
        for name in kept:
            state[name].copy_(fixed(name, tuple(state[name].shape)))
        outputs = theirs(fixed("image", (1, 2, *case["size"])))
    return case | {
        "all_names": list(state),
        "kept": {name: list(state[name].shape) for name in kept},
        "outputs": [[round(v, 7) for v in output.flatten()[::EVERY].tolist()] for output in outputs],
    }


def main() -> None:
    """Write the file."""
    made_by = {name: version(name) for name in ("dynamic-network-architectures", "torch")}
    answers = {name: answer(case) for name, case in CASES.items()}
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps({"made_by": made_by, "cases": answers}, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
