"""Why a network decides as it does at one voxel, in terms of its kernels.

A level set network, and the solver, add to u in every step what balloon, curvature and convection give: the sums over
the steps are told, together with the part of each pair of kernels in the curvature. They give u_T - u_0 exactly.

Of other networks the effect of each kernel on the logit is told to first order, sum of K dz/dK: what the logit would
lose, to first order, without this kernel. In a layer without bias of a network that is linear behind it these effects
sum to the logit.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src_models.errors import InputError
from src_models.inference.clicks import check_points, with_channel
from src_models.levelset.states import LevelSetResult
from src_models.networks.blocks import interpolate
from src_models.networks.lsn import Level, LevelSetNetwork
from src_models.networks.lsn_terms import StepTerms, StepWeights
from src_models.networks.network import Network, pad_far
from src_models.preprocessing.prepare import Way, prepare
from src_models.weights.card import ModelCard

TERMS = ("balloon", "curvature", "convection")


@dataclass(frozen=True)
class PairPart:
    """What one pair of kernels gave to the curvature's increment.

    Attributes
    ----------
    step : str
        Name of the module with the weights, such as ``"levels.0.steps.0"``.
    state, number : int
        Level set, and pair in it.
    kernels : int
        Pairs of a state.
    value : float
        mm of u.
    """

    step: str
    state: int
    number: int
    kernels: int
    value: float

    @property
    def rho(self) -> tuple[str, int, int]:
        """Layer, output and input channel of the kernel of slopes."""
        return f"{self.step}.rho", self.state * self.kernels + self.number, self.state

    @property
    def sigma(self) -> tuple[str, int, int]:
        """Layer, output and input channel of the kernel of the divergence."""
        return f"{self.step}.sigma", self.state, self.state * self.kernels + self.number


@dataclass(frozen=True)
class Increments:
    """What moved u at a voxel; ``start`` and the parts sum to ``end``.

    Attributes
    ----------
    start, end : float
        u_0 (brought to the grid of the image) and u_T in mm, positive inside.
    balloon, curvature, convection : float
        Summed over the steps.
    other : float
        Of the solver: redistancing, walls and pins.
    pairs : tuple of PairPart
        They sum to the curvature; none for the solver.
    state : int
        Which level set.
    """

    start: float
    end: float
    balloon: float
    curvature: float
    convection: float
    other: float = 0.0
    pairs: tuple[PairPart, ...] = ()
    state: int = 0

    @property
    def sum(self) -> float:
        """Of all parts: u_T - u_0."""
        return self.balloon + self.curvature + self.convection + self.other


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """First-order effects of kernels on the logit at a voxel.

    Attributes
    ----------
    logit : float
        Of the channel; under a softmax its lead over the strongest rival.
    channel : int
        Of the output.
    rival : int or None
        Under a softmax.
    effects : mapping of str to ndarray of shape (out, in / groups)
        Sum of K dz/dK by the name of the convolution, transposed ones turned as convolutions.
    """

    logit: float
    channel: int
    rival: int | None
    effects: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class WhyHere:
    """The answer for a voxel of an image.

    Attributes
    ----------
    label : str
        Name of the class that is asked about.
    rival : str
        What else was likeliest there; "" under a sigmoid.
    logit : float
        Of the label; under a softmax its lead over the rival.
    increments : Increments or None
        Of a level set network.
    first_order : FirstOrder
        Of any network.
    whole : bool
        Whether the network saw all of the image, or a window around the voxel.
    """

    label: str
    rival: str
    logit: float
    increments: Increments | None
    first_order: FirstOrder
    whole: bool


def why_here(
    network: Network,
    card: ModelCard,
    image: NDArray[Any],
    spacing: Sequence[float],
    place: Sequence[float],
    *,
    unit: str = "mm",
    channel: int | None = None,
    points: Sequence[Sequence[float]] = (),
) -> WhyHere:
    """Why a network decides as it does at a voxel of an image.

    The network sees what a prediction shows it: the window of the card, here with the voxel in its middle where the
    image allows it.

    Parameters
    ----------
    network : Network
        Not changed: it works on a copy.
    card : ModelCard
        How the image is prepared, and what the outputs mean.
    image : ndarray of shape (C, z, y, x) or (C, y, x)
        As in the file.
    spacing : sequence of float
        mm per axis.
    place : sequence of float
        The voxel, in voxels of the image.
    unit : str
        Of the spacing, ``"mm"`` or ``"px"``.
    channel : int, optional
        Output channel of the label that is asked about; by default the likeliest one there that is no background.
    points : sequence of sequence of float
        Clicks in mm from the first voxel, for a model that begins at one.

    Raises
    ------
    InputError
        Where the image or the place do not fit.
    """
    if image.ndim - 1 != network.ndim:
        raise InputError(
            "why-axes",
            f"This network takes {network.ndim}D images",
            f"the image has {image.ndim - 1} axes",
            "Choose the slice on show." if network.ndim == 2 else "Choose a volume.",
        )
    begun = check_points(points, card, image.shape[1:], spacing)
    ready = prepare(image, spacing, card.preprocessing.for_unit(unit), nan="fill")
    array = with_channel(ready.array, ready.way, begun, card)
    x, at, whole = _window(array, _on_grid(place, ready.way), card.patch, network)
    if isinstance(network, LevelSetNetwork):
        softmax = card.head == "softmax"
        state = channel if channel is None else channel - softmax
        twin = copy.deepcopy(network).double().eval()
        found = increments_of_network(twin, x.double(), at, state)
        effects = first_order(network, x, at, found.state + softmax)
        label, rival = _names(card, found.state + softmax, 0 if softmax else None)
        logit = found.end / float(torch.as_tensor(twin.temperature).detach())
        return WhyHere(label, rival, logit, found, effects, whole)
    effects = first_order(network, x, at, channel)
    label, rival = _names(card, effects.channel, effects.rival)
    return WhyHere(label, rival, effects.logit, None, effects, whole)


def _on_grid(place: Sequence[float], way: Way) -> tuple[int, ...]:
    """The voxel of the prepared array nearest to one of the image."""
    found = []
    for k, axis in enumerate(way.axis_order):
        inside = (place[axis] - (way.box[k].start or 0) + 0.5) * way.resampled[k] / way.cropped[k] - 0.5
        if not -0.5 <= inside <= way.resampled[k] - 0.5:
            raise InputError(
                "why-nothing", "There is no image at this place", "the model looks at the part that is not 0", ""
            )
        found.append(min(round(inside), way.resampled[k] - 1))
    return tuple(found)


def _window(
    array: NDArray[np.float32], place: Sequence[int], patch: Sequence[int], network: Network
) -> tuple[Tensor, tuple[int, ...], bool]:
    """The window of a card around a voxel, (1, C, *spatial), and where the voxel lies in it.

    It begins at a whole stride of the network, so that its pools lie as in the whole image. What is smaller than the
    window is filled up with 0 on both sides as in a prediction, unless borders are replicated.
    """
    size, replicates = array.shape[1:], network.replicates
    window = tuple(min(n, p) for n, p in zip(size, patch, strict=True))
    corner = []
    for c, w, n, stride in zip(place, window, size, network.stride, strict=True):
        begin = max(c - w // 2, 0)
        corner.append(n - w if begin >= n - w else begin - begin % stride)
    part = array[(slice(None), *(slice(a, a + w) for a, w in zip(corner, window, strict=True)))]
    before = [0 if replicates else (p - w) // 2 for p, w in zip(patch, window, strict=True)]
    if not replicates:
        pads = [(b, p - w - b) for b, p, w in zip(before, patch, window, strict=True)]
        part = np.pad(part, [(0, 0), *pads])
    at = tuple(c - a + b for c, a, b in zip(place, corner, before, strict=True))
    return torch.from_numpy(np.ascontiguousarray(part))[None], at, window == tuple(size)


def _names(card: ModelCard, channel: int, rival: int | None) -> tuple[str, str]:
    names = {label.channel: label.name for label in card.labels}
    return names.get(channel, f"output {channel}"), "" if rival is None else names.get(rival, f"output {rival}")


def increments_of_network(
    network: LevelSetNetwork, x: Tensor, place: Sequence[int], state: int | None = None
) -> Increments:
    """What moved the level set of a network at a voxel.

    Parameters
    ----------
    network : LevelSetNetwork
        Not changed. It computes in the number format of its weights.
    x : Tensor of shape (1, C, *spatial)
        As the network takes it.
    place : sequence of int
        The voxel.
    state : int, optional
        Which level set; by default the one that is largest there.

    Raises
    ------
    InputError
        Where the voxel lies outside.
    """
    _check_place(x, place)
    padded = pad_far(x, [-(-n // s) * s for n, s in zip(x.shape[2:], network.stride, strict=True)])
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        sums = _Sums(network)
        states = network.evolve(padded, sums.add)
        begin = next(states)
        u = deque(states, maxlen=1)[0]
        finest = len(network.levels) - 1
        for _ in range(finest):
            begin = interpolate(begin, 2, "linear")
        parts = sums.finished(finest)
        where = tuple(place)
        if state is None:
            every: Any = (0, slice(None), *where)
            state = int(u[every].argmax())
        at: Any = (0, state, *where)
        balloon, curvature, convection = (float(parts[name][at]) if name in parts else 0.0 for name in TERMS)
        pairs = tuple(
            PairPart(name, state, number, count, float(parts[name][(0, state * count + number, *where)]))
            for name, count in sums.counts.items()
            if name in parts
            for number in range(count)
        )
        return Increments(float(begin[at]), float(u[at]), balloon, curvature, convection, pairs=pairs, state=state)


class _Sums:
    """Sums of increments as fields: they are brought to a finer grid as u is, and that is linear."""

    def __init__(self, network: LevelSetNetwork) -> None:
        self._names: dict[int, tuple[int, str]] = {}
        self.counts: dict[str, int] = {}
        for k, level in enumerate(network.levels):
            assert isinstance(level, Level)
            for number, weights in enumerate(level.steps):
                assert isinstance(weights, StepWeights)
                name = f"levels.{k}.steps.{number}"
                self._names[id(weights)] = (k, name)
                self.counts[name] = weights.count
        self._level = 0
        self._parts: dict[str, Tensor] = {}

    def add(self, terms: StepTerms) -> None:
        """One more step."""
        level, name = self._names[id(terms.weights)]
        self._go_to(level)
        increments = {"balloon": terms.balloon, "curvature": terms.curvature, "convection": terms.convection}
        for key, value in (increments | {name: terms.pairs().flatten(1, 2)}).items():
            self._parts[key] = self._parts[key] + value if key in self._parts else value

    def finished(self, level: int) -> dict[str, Tensor]:
        """The sums on the finest grid."""
        self._go_to(level)
        return self._parts

    def _go_to(self, level: int) -> None:
        while self._level < level:
            self._level += 1
            self._parts = {key: interpolate(value, 2, "linear") for key, value in self._parts.items()}


def increments_of_solver(result: LevelSetResult, place: Sequence[int]) -> Increments:
    """What moved the level set of a run of the solver at a voxel.

    Parameters
    ----------
    result : LevelSetResult
        Of `levelset.evolution.evolve` with ``contributions=True``.
    place : sequence of int
        The voxel.

    Raises
    ------
    InputError
        Where the run kept no contributions, or the voxel lies outside.
    """
    if result.contributions is None:
        raise InputError(
            "why-contributions", "This run kept no contributions", "", "Run it again with contributions=True."
        )
    end = torch.from_numpy(np.asarray(result.level_set))
    _check_place(end[None, None], place)
    balloon, curvature, convection, other = (float(part[tuple(place)]) for part in result.contributions.values())
    last = float(end[tuple(place)])
    return Increments(last - (balloon + curvature + convection + other), last, balloon, curvature, convection, other)


def first_order(network: nn.Module, x: Tensor, place: Sequence[int], channel: int | None = None) -> FirstOrder:
    """First-order effect of every kernel on the logit at a voxel.

    Parameters
    ----------
    network : Module
        Gives logits of shape (1, K, *spatial). Not changed: it works on a copy.
    x : Tensor of shape (1, C, *spatial)
        As the network takes it.
    place : sequence of int
        The voxel.
    channel : int, optional
        Of the output; by default the one that is largest there, the background of a softmax left out.

    Raises
    ------
    InputError
        Where the voxel lies outside, or there is no such channel.
    """
    _check_place(x, place)
    twin = copy.deepcopy(network).eval()
    convolutions: dict[str, Any] = {
        name: module for name, module in twin.named_modules() if isinstance(module, nn.modules.conv._ConvNd)
    }
    twin.requires_grad_(False)
    for module in convolutions.values():
        module.weight.requires_grad_(True)
    with torch.enable_grad():
        logits = twin(x.to(next(twin.parameters()).dtype))[(0, slice(None), *place)]
        softmax = getattr(getattr(network, "options", None), "head", "softmax") == "softmax" and len(logits) > 1
        chosen, rival = _channels(logits.detach(), channel, softmax)
        value = logits[chosen] - logits[rival] if rival is not None else logits[chosen]
        weights = [module.weight for module in convolutions.values()]
        slopes = torch.autograd.grad(value, weights, allow_unused=True)
    effects = {
        name: _effects(module, slope)
        for (name, module), slope in zip(convolutions.items(), slopes, strict=True)
        if slope is not None
    }
    return FirstOrder(float(value.detach()), chosen, rival, effects)


def _channels(logits: Tensor, channel: int | None, softmax: bool) -> tuple[int, int | None]:
    if channel is None:
        channel = 1 + int(logits[1:].argmax()) if softmax else int(logits.argmax())
    if not 0 <= channel < len(logits):
        raise InputError(
            "why-channel", f"There is no output {channel}", f"the network has {len(logits)}", "Choose one of them."
        )
    if not softmax:
        return channel, None
    others = logits.clone()
    others[channel] = -torch.inf
    return channel, int(others.argmax())


def _effects(module: Any, slope: Tensor) -> NDArray[np.float64]:
    """Sum of K dK over each kernel, (out, in / groups)."""
    found = (module.weight.detach() * slope).double().flatten(2).sum(2)
    if module.transposed:
        inside, out = found.shape
        found = found.view(module.groups, inside // module.groups, out).transpose(1, 2).flatten(0, 1)
    effects: NDArray[np.float64] = found.cpu().numpy()
    return effects


def _check_place(x: Tensor, place: Sequence[int]) -> None:
    size = tuple(x.shape[2:])
    if len(place) != len(size) or not all(0 <= p < n for p, n in zip(place, size, strict=True)):
        raise InputError(
            "why-place", "This place lies outside the image", f"{tuple(place)} of {size}", "Click into it."
        )
