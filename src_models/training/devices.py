"""Where a training runs: device, precision and, under torchrun or SLURM, several processes; through Lightning Fabric.

Fabric never starts a process here: one device is used as it is, several are there because torchrun or SLURM started
this program once for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from src_models.errors import DeviceError, InputError
from src_models.networks.network import Network

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_FABRIC = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Outputs(nn.Module):
    """All outputs of a network as a plain tuple, finest first, which precision and gradient exchange can handle."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits, then those of coarser stages."""
        out = self.network.forward_full(x)
        return (out.logits, *out.aux)


@dataclass(eq=False)
class Devices:
    """One process among those that train together.

    Attributes
    ----------
    fabric : Fabric
        Of Lightning.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    """

    fabric: Fabric
    precision: str

    @property
    def device(self) -> torch.device:
        """Where tensors are."""
        return self.fabric.device

    @property
    def rank(self) -> int:
        """Number of this process; 0 writes files."""
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        """How many processes there are."""
        return self.fabric.world_size

    def setup(self, network: Network, optimiser: torch.optim.Optimizer) -> tuple[Callable[[Tensor], Any], Any]:
        """The network and its optimiser as they are to be called: on the device, in the precision, exchanging."""
        module, wrapped = self.fabric.setup(Outputs(network), optimiser)
        return module, wrapped

    def add(self, x: Tensor) -> Tensor:
        """Sums of this process made sums over all; the gradient is that of this process."""
        if self.world == 1:
            return x
        total = x.detach().clone()
        torch.distributed.all_reduce(total)
        return x + (total - x.detach())

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss that `add` made the same everywhere.

        Each process has the gradient of its part. The exchange takes the mean, where the sum is wanted.
        """
        self.fabric.backward(loss * self.world if self.world > 1 else loss)

    def clip(self, module: Any, optimiser: Any, norm: float) -> None:
        """Shorten the gradient to a norm."""
        self.fabric.clip_gradients(module, optimiser, max_norm=norm, error_if_nonfinite=False)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            self.fabric.barrier()

    @property
    def scaler_state(self) -> dict[str, Any]:
        """Of the loss scale of fp16; empty otherwise."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        return {} if scaler is None else dict(scaler.state_dict())

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Go on with a loss scale."""
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if scaler is not None and state:
            scaler.load_state_dict(state)


def open_devices(device: str = "auto", precision: Precision = "fp32", *, unused_parts: bool = False) -> Devices:
    """Take the device that is asked for.

    Parameters
    ----------
    device : str
        ``"auto"`` (a graphics card where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    precision : str
        ``"auto"``: bf16 on a graphics card that has it, else fp16 there; fp32 on the processor.
    unused_parts : bool
        Some parts of the network have no gradient; several processes must know.

    Raises
    ------
    DeviceError, InputError
        Where there is no such device or precision.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    kind, number = _device(device)
    chosen = _precision(precision, kind)
    world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
    launched = world > 1 and ("LOCAL_RANK" in os.environ or "SLURM_PROCID" in os.environ)
    if not launched:
        devices: Any = 1 if kind == "cpu" or number is None else [number]
        return Devices(Fabric(accelerator=kind, devices=devices, precision=_FABRIC[chosen]), chosen)  # type: ignore[arg-type]
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", str(world))))
    fabric = Fabric(
        accelerator=kind,
        devices=here,
        num_nodes=world // here,
        strategy=DDPStrategy(find_unused_parameters=unused_parts),
        precision=_FABRIC[chosen],  # type: ignore[arg-type]
    )
    # the processes are there: this joins them and starts none
    fabric.launch()
    return Devices(fabric, chosen)


def chosen_device(name: str) -> str:
    """The device that a name means on this computer, as torch writes it.

    Raises
    ------
    DeviceError, InputError
        Where there is none.
    """
    kind, number = _device(name)
    return kind if number is None else f"{kind}:{number}"


def _device(name: str) -> tuple[str, int | None]:
    kind, _, number = name.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in there:
        raise InputError("device-name", f"There is no kind of device {kind}", "", "Choose auto, cpu, cuda or mps.")
    if not there[kind] or (number and kind == "cuda" and int(number) >= torch.cuda.device_count()):
        raise DeviceError("device-missing", f"This computer has no device {name}", "", "Choose --device cpu.")
    return kind, int(number) if number else None


def _precision(name: str, kind: str) -> str:
    if name == "auto":
        if kind != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if name not in _FABRIC:
        raise InputError("precision", f"There is no precision {name}", "", f"Choose one of: {', '.join(_FABRIC)}.")
    if name == "fp16" and kind == "cpu":
        raise InputError("precision-cpu", "fp16 does not train on the processor", "", "Choose fp32 or bf16.")
    return name
