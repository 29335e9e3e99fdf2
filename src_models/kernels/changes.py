"""What an experiment does to kernels, each as a function of rows; and a network with changed kernels, for a while.

`modified` changes the weights of a network in place and puts the very same bits back, also after an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from src_models.errors import InputError
from src_models.files.gate import shown
from src_models.kernels.dictionary import PRESETS, dictionary
from src_models.kernels.labels import bank
from src_models.kernels.moments import from_moments_of, moments_of, polynomials
from src_models.kernels.parameters import Preset
from src_models.kernels.result import Layer

Floats = NDArray[np.float64]
Kind = Literal["zero", "onto", "without", "moments", "template", "shuffle", "noise"]
SPANS = ("mean-zero", "first", "first+second", *PRESETS)


class Operation(BaseModel):
    """A change of kernels.

    ``zero``: removed. ``onto`` and ``without`` a span (`SPANS`): K -> P K, or K - P K. ``moments``: those of the
    degrees in `detail` stay, such as ``1,2``, the others become zero. ``template``: the nearest known kernel of a
    preset, scaled to fit best. ``shuffle``: entries in another order. ``noise``: Gaussian entries of the same norm.
    With a strength t below 1 a kernel becomes (1 - t) K + t K'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "zero"
    detail: str = ""
    strength: float = Field(1.0, ge=0, le=1)
    keep_norm: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Operation:
        if self.kind in ("onto", "without") and self.detail not in SPANS:
            raise ValueError(f"{self.kind} takes a span: {', '.join(SPANS)}")
        if self.kind == "moments" and not re.fullmatch(r"\d+(,\d+)*", self.detail):
            raise ValueError("moments takes degrees, such as 1,2")
        if self.kind == "template" and self.detail not in ("", *PRESETS):
            raise ValueError(f"template takes a preset: {', '.join(PRESETS)}")
        return self

    @property
    def name(self) -> str:
        """Such as ``onto:mean-zero``."""
        return f"{self.kind}:{self.detail}" if self.detail else self.kind

    @classmethod
    def parse(cls, text: str) -> Operation:
        """From text such as ``zero``, ``onto:mean-zero`` or ``moments:1,2``.

        Raises
        ------
        InputError
            With what is possible.
        """
        kind, _, detail = text.strip().partition(":")
        try:
            return cls.model_validate({"kind": kind, "detail": detail})
        except ValueError as error:
            why = f"an operation is one of {', '.join(get_args(Kind))}, some with : and what"
            raise InputError(
                "kernels-operation", f"{text!r} is no operation", why, "Such as onto:mean-zero."
            ) from error


def applied(flat: NDArray[Any], size: Sequence[int], operation: Operation, random: np.random.Generator) -> Floats:
    """Kernels in rows after an operation.

    Parameters
    ----------
    flat : ndarray of shape (N, entries)
        Kernels.
    size : sequence of int
        Of each.
    operation : Operation
        What is done.
    random : Generator
        For shuffle and noise.
    """
    old = np.asarray(flat, np.float64)
    new = _new(old, tuple(size), operation, random)
    if operation.strength < 1:
        new = (1 - operation.strength) * old + operation.strength * new
    if operation.keep_norm:
        norms = [np.linalg.norm(part, axis=1, keepdims=True) for part in (old, new)]
        new = new * np.divide(norms[0], norms[1], out=np.zeros_like(norms[0]), where=norms[1] > 0)
    return new


def _new(old: Floats, size: tuple[int, ...], operation: Operation, random: np.random.Generator) -> Floats:
    if operation.kind == "zero":
        return np.zeros_like(old)
    if operation.kind in ("onto", "without"):
        basis = span(operation.detail, size)
        inside: Floats = (old @ basis.T) @ basis
        return inside if operation.kind == "onto" else old - inside
    if operation.kind == "moments":
        kept = [int(part) for part in operation.detail.split(",")]
        degree = np.array([sum(a) for a in np.ndindex(*size)])
        if max(kept) > degree.max():
            raise InputError(
                "kernels-moments",
                f"Kernels of {' x '.join(map(str, size))} have no moments of degree {max(kept)}",
                f"their degrees are 0 to {degree.max()}",
                "Leave it out.",
            )
        return from_moments_of(moments_of(old, size) * np.isin(degree, kept), size)
    if operation.kind == "template":
        templates = bank(dictionary(_preset(operation.detail or "extended"), size)).rows
        products = old @ templates.T
        place = np.argmax(np.abs(products), axis=1)
        best: Floats = products[np.arange(len(old)), place][:, None] * templates[place]
        return best
    if operation.kind == "shuffle":
        return random.permuted(old, axis=1)
    drawn = random.standard_normal(old.shape)
    scaled: Floats = drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * np.linalg.norm(old, axis=1, keepdims=True)
    return scaled


def span(name: str, size: tuple[int, ...]) -> Floats:
    """An orthonormal basis of kernels, as rows: ``mean-zero``, ``first``, ``first+second``, or those of a preset."""
    if name in PRESETS:
        known = dictionary(_preset(name), size).flat
        _, values, basis = np.linalg.svd(known, full_matrices=False)
        found: Floats = basis[values > 1e-9 * values[0]]
        return found
    basis, degree = polynomials(size)
    wanted = {"mean-zero": degree > 0, "first": degree == 1, "first+second": (degree == 1) | (degree == 2)}[name]
    chosen: Floats = basis[wanted]
    return chosen


def _preset(name: str) -> Preset:
    return next(preset for preset in PRESETS if preset == name)


@contextmanager
def modified(
    network: nn.Module, changes: Sequence[tuple[Layer, NDArray[np.intp], NDArray[Any]]]
) -> Iterator[nn.Module]:
    """The network with other kernels inside the ``with`` block; afterwards its weights are what they were, bit by bit.

    Parameters
    ----------
    network : Module
        Whose layers were collected; not quantised.
    changes : sequence of (Layer, rows, kernels)
        Rows count within the layer; kernels have the size of the analysis, (rows, entries).

    Raises
    ------
    InputError
        Where a layer is not in the network, or the filled-up part of a kernel would not be zero.
    """
    modules = dict(network.named_modules())
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        for layer, rows, kernels in changes:
            weight = _weight(modules, layer)
            kept.append((weight, weight.detach().clone()))
            _put(weight, layer, rows, kernels)
        yield network
    finally:
        with torch.no_grad():
            for weight, before in reversed(kept):
                weight.copy_(before)


def _weight(modules: dict[str, nn.Module], layer: Layer) -> torch.Tensor:
    module = modules.get(layer.name, modules.get("") if len(modules) == 1 else None)
    weight: Any = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.is_quantized:
        raise InputError(
            "kernels-layer", f"{shown(layer.name)} cannot be changed in this network", "", "Give the analysed network."
        )
    return weight


def _put(weight: torch.Tensor, layer: Layer, rows: NDArray[np.intp], kernels: NDArray[Any]) -> None:
    wide = np.asarray(kernels).reshape(-1, *layer.size)
    inside = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(layer.size, layer.stored_size, strict=True))
    per_group = int(layer.kernels.shape[1])
    outs, ins = np.divmod(np.asarray(rows), per_group)
    values = torch.from_numpy(np.ascontiguousarray(wide[(slice(None), *inside)])).to(weight)
    with torch.no_grad():
        if layer.kind == "transposed":
            out_per_group = layer.out_channels // layer.groups
            group = outs // out_per_group
            flipped = values.flip(tuple(range(1, values.ndim)))
            weight[torch.from_numpy(group * per_group + ins), torch.from_numpy(outs % out_per_group)] = flipped
        else:
            weight[torch.from_numpy(outs), torch.from_numpy(ins)] = values
