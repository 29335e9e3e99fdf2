"""Models that are not what an analysis likes: each is analysed rightly, or refused in one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from src_models.cli import main
from src_models.errors import LsnetError
from src_models.kernels import KernelAnalysisParameters, KernelReport, analyse
from src_models.kernels.figures import draw
from src_models.kernels.page import page
from src_models.kernels.report import to_csv, to_json
from src_models.progress import finish

QUICK = KernelAnalysisParameters(n=8, null_draws=100, cluster_draws=0, threads=1)


def _analysed(source: Any) -> KernelReport:
    return finish(analyse(source, QUICK))


def _conv(change: Callable[[torch.Tensor], None] | None = None, dtype: torch.dtype = torch.float32) -> nn.Conv2d:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3).to(dtype)
    if change is not None:
        with torch.no_grad():
            change(layer.weight)
    return layer


def _shared() -> nn.Module:
    network = nn.Sequential(_conv(), nn.ReLU())
    return network.append(network[0])


def _pruned() -> nn.Module:
    layer = _conv()
    prune.random_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]
    return layer


def _quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.nn.quantized as quantised

        layer = quantised.Conv2d(2, 4, 3)
        weight = torch.quantize_per_tensor(_conv().weight.detach(), 0.005, 0, torch.qint8)
        layer.set_weight_bias(weight, None)  # type: ignore[no-untyped-call]
        return nn.Sequential(layer)


def _scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(_conv()))  # type: ignore[no-untyped-call]


ANALYSED: dict[str, Callable[[], Any]] = {
    "shared": _shared,
    "weight norm": lambda: nn.Sequential(weight_norm(_conv())),
    "pruned": _pruned,
    "half": lambda: _conv(dtype=torch.float16),
    "bfloat": lambda: _conv(dtype=torch.bfloat16),
    "double": lambda: _conv(dtype=torch.float64),
    "quantised": _quantised,
    "scripted": _scripted,
    "parallel": lambda: nn.DataParallel(nn.Sequential(_conv())),
    "sparse": lambda: {"w": _conv().weight.detach().to_sparse()},
    "arrays": lambda: {"w": _conv().weight.detach().numpy()},
    "whole numbers": lambda: {"w": torch.arange(72).reshape(2, 4, 3, 3) % 7},
    "checkpoint": lambda: {"epoch": 3, "state_dict": {"module.w": _conv().weight.detach()}},
    "beside nothing": lambda: {"w": _conv().weight.detach(), "empty": torch.zeros(0, 3, 3, 3)},
    "equal": lambda: _conv(lambda w: w.copy_(w[:1, :1].clone().expand_as(w))),
    "tiny": lambda: _conv(lambda w: w.mul_(1e-40)),
}


@pytest.mark.parametrize("name", ANALYSED)
def test_odd_models_are_analysed_and_told_as_any_other(name: str) -> None:
    report = _analysed(ANALYSED[name]())
    assert len(report.table) == 8
    assert report.layers[0].dead == 0
    assert report.record.inputs["weights_sha256"] == _analysed(ANALYSED[name]()).record.inputs["weights_sha256"]
    if name == "shared":
        assert report.notes == ("1 tensor(s) are stored more than once and were taken once.",)
    if name == "beside nothing":
        assert report.skipped[0].reason == "a tensor without numbers holds no kernels"
    labels = report.table.words("label")
    if name in ("sparse", "arrays", "scripted", "checkpoint", "parallel", "weight norm", "double"):
        assert labels.tolist() == _analysed(_conv()).table.words("label").tolist()


@pytest.mark.parametrize("name", ["zero", "one dead", "one kernel", "equal"])
def test_networks_with_nothing_to_see_are_drawn_all_the_same(name: str) -> None:
    made: dict[str, Callable[[], Any]] = {
        "zero": lambda: _conv(lambda w: w.zero_()),
        "one dead": lambda: _conv(lambda w: w[1].zero_()),
        "one kernel": lambda: nn.Conv2d(1, 1, 3),
        "equal": ANALYSED["equal"],
    }
    report = _analysed(made[name]())
    assert report.layers[0].dead == {"zero": 8, "one dead": 2}.get(name, 0)
    text = page(report, draw(report))
    assert "nan" not in text.replace("finance", "").lower().split("data:image")[0]
    assert to_csv(report.table)
    assert b"NaN" not in to_json(report)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "NoneType, has no kernels"),
    "a number": (lambda: 5, "int, has no kernels"),
    "no convolution": (lambda: nn.Linear(2, 2), "none of its layers is a 2D or 3D convolution"),
    "one axis": (lambda: nn.Conv1d(2, 2, 3), "none of its layers"),
    "points": (lambda: nn.Conv2d(2, 2, 1), "1 x 1 kernels have no shape"),
    "even": (lambda: nn.ConvTranspose2d(2, 2, 2, stride=2), "even size have no centre"),
    "large": (lambda: nn.Conv2d(2, 2, 9), "larger than 7"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "0 has no weights yet"),
    "meta": (lambda: nn.Sequential(nn.Conv2d(2, 2, 3)).to("meta"), "has no numbers"),
    "not finite": (lambda: _conv(lambda w: w[0, 0, 0].fill_(torch.inf)), "3 of 72 weights"),
    "not a number": (lambda: _conv(lambda w: w[0, 0, 0, 0].fill_(torch.nan)), "1 of 72 weights"),
    "too large": (lambda: _conv(lambda w: w.mul_(1e200), torch.float64), "as large as [1-9]e.1"),
    "complex": (lambda: {"w": torch.zeros(2, 2, 3, 3, dtype=torch.complex64)}, "complex numbers"),
    "empty": (lambda: {"w": torch.zeros(0, 3, 3, 3)}, "without numbers"),
    "no tensors": (lambda: {"a": 1}, "no plain table of tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_analysed_is_one_sentence(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(LsnetError, match=words) as caught:
        _analysed(make())
    assert "\n" not in str(caught.value)


def test_the_command_line_counts_in_words_and_says_every_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 2))
    torch.save(network.state_dict(), tmp_path / "one.pth")
    flags = ["--n", "8", "--null-draws", "100", "--cluster-draws", "0", "--no-figures"]
    assert main(["kernels", str(tmp_path / "one.pth"), "--out", str(tmp_path / "out"), *flags]) == 0
    said = capsys.readouterr().out
    assert "1 kernel in 1 layer, " in said
    assert "2 convolutions were not analysed: 1 x 1 kernels have no shape; kernels of even size have no centre." in said


def test_a_layer_of_very_many_kernels_is_told_of_all_the_time() -> None:
    """Blocks, not one array for all: memory stays near the weights, and progress comes all the time."""
    weight = torch.randn((400, 300, 3, 3), generator=torch.Generator().manual_seed(0))
    shares = [step.fraction for step in analyse({"w": weight}, QUICK) if step.phase == "spectra"]
    assert len(shares) > 3
    assert np.all(np.diff(shares) >= 0)
    assert max(np.diff(shares)) < 0.6
