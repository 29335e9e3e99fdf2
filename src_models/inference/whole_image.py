"""Logits of a whole prepared image that fits into the memory: what trainings and experiments judge a network by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_models.inference.windows import gaussian, positions
from src_models.networks.network import Network


@torch.no_grad()
def predict_logits(
    network: Network, image: NDArray[np.float32], patch: Sequence[int], device: torch.device, step: float = 0.5
) -> Tensor:
    """Logits (K, *spatial) of a normalised image (C, *spatial): overlapping windows under a Gaussian weight.

    They are `step` windows apart. A volume goes through a 2D network slice by slice.
    """
    if image.ndim - 1 > len(patch):
        return torch.stack(
            [predict_logits(network, image[:, z], patch, device, step) for z in range(image.shape[1])], 1
        )
    size = [max(n, p) for n, p in zip(image.shape[1:], patch, strict=True)]
    before = [(n - m) // 2 for n, m in zip(size, image.shape[1:], strict=True)]
    pads = [(0, 0), *((b, n - m - b) for b, n, m in zip(before, size, image.shape[1:], strict=True))]
    padded = torch.from_numpy(np.pad(image, pads) if any(map(any, pads)) else np.array(image))
    weight = torch.from_numpy(gaussian(patch))
    total, weights = torch.zeros(network.num_classes, *size), torch.zeros(size)
    for corner in product(*(positions(n, p, step) for n, p in zip(size, patch, strict=True))):
        window = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        logits = network(padded[(slice(None), *window)][None].to(device))[0].float().cpu()
        total[(slice(None), *window)] += logits * weight
        weights[window] += weight
    inside = tuple(slice(b, b + m) for b, m in zip(before, image.shape[1:], strict=True))
    return (total / weights)[(slice(None), *inside)]
