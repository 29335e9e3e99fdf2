"""Kernels of any network read alike: what they do to an image is what the layer does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from src_models.errors import FileError, InputError
from src_models.kernels.collect import collect_module, collect_state
from src_models.kernels.result import Layer
from src_models.kernels.sources import open_source
from src_models.networks.zoo import build
from tests.src_models.kernels.networks import seeded, small

NNUNET = Path(__file__).parents[2] / "data" / "nnunet" / "plain"


def _one(module: nn.Module) -> Layer:
    (layer,) = collect_module(seeded(module).double()).layers
    return layer


def _response(layer: Layer, image: Tensor) -> Tensor:
    """What a layer's kernels do, row by row: cross-correlation of each input channel, dilated, zeros beyond."""
    outs, ins = layer.channels()
    total = torch.zeros(layer.out_channels, *image.shape[1:], dtype=torch.float64)
    conv = functional.conv2d if layer.ndim == 2 else functional.conv3d
    pad = tuple(d * (k // 2) for k, d in zip(layer.size, layer.dilation, strict=True))
    for row in range(layer.count):
        kernel = torch.from_numpy(np.asarray(layer.flat[row], np.float64).reshape(1, 1, *layer.size))
        found = conv(image[None, ins[row]][None], kernel, padding=pad, dilation=layer.dilation)
        total[outs[row]] += found[0, 0]
    return total


@pytest.mark.parametrize(
    ("module", "channels"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, bias=False), 4),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), 4),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False), 4),
        (nn.Conv2d(2, 3, 3, padding=2, dilation=2, bias=False), 2),
        (nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1), bias=False), 2),
        (nn.Conv3d(2, 3, 3, padding=1, bias=False), 2),
        (nn.Conv2d(2, 3, 5, padding=2, bias=False), 2),
        (nn.Conv2d(2, 3, (3, 5), padding=(1, 2), bias=False), 2),
        (nn.ConvTranspose2d(4, 6, 3, padding=1, bias=False), 4),
        (nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2, bias=False), 4),
        (nn.ConvTranspose3d(2, 3, 3, padding=1, bias=False), 2),
    ],
)
def test_rows_do_what_the_layer_does(module: nn.Module, channels: int) -> None:
    layer = _one(module)
    shape = (channels, 7, 8) if layer.ndim == 2 else (channels, 5, 6, 7)
    image = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(image[None])[0]
    assert float((_response(layer, image) - expected).abs().max()) < 1e-12


def test_the_papers_unet_has_its_kernels() -> None:
    network = build("unet-paper", 1, 1, 2)
    found = collect_module(network, image=(256, 256))
    assert found.count == 14_608
    assert len(found.layers) == 18
    assert sum(parameter.numel() for parameter in network.parameters()) == 131_938
    counts = [layer.count for layer in found.layers]
    assert (sum(counts[:8]), sum(counts[8:10]), sum(counts[10:])) == (2832, 6144, 5632)
    sizes = [layer.input_size[0] for layer in found.layers if layer.input_size]
    assert sizes == [256, 256, 128, 128, 64, 64, 32, 32, 16, 16, 16, 16, 32, 32, 64, 64, 128, 128]
    (skipped,) = found.skipped
    assert (skipped.size, skipped.count, skipped.reason) == ((1, 1), 17, "1 x 1 kernels have no shape")


def test_shared_modules_and_shared_tensors_count_once() -> None:
    shared = nn.Conv2d(3, 3, 3)
    twin = nn.Conv2d(3, 3, 3)
    twin.weight = shared.weight
    found = collect_module(nn.ModuleDict({"a": shared, "b": shared, "c": twin}))
    assert [layer.name for layer in found.layers] == ["a"]
    assert any("taken once" in note for note in found.notes)
    state = {"encoder.weight": shared.weight, "decoder.encoder.weight": shared.weight.clone()}
    assert [layer.name for layer in collect_state(state).layers] == ["encoder"]


def test_bare_tensors_say_that_their_kind_is_unknown() -> None:
    found = collect_state({**small().state_dict(), "linear.weight": torch.zeros(3, 4)})
    assert {layer.kind for layer in found.layers} == {"unknown"}
    assert [layer.count for layer in found.layers] == [6, 24]
    assert "cannot be told apart" in found.notes[-1]


def test_what_is_no_stencil_is_skipped_with_its_reason() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.ConvTranspose2d(2, 2, 2, 2), nn.Conv2d(2, 2, 9), nn.Conv1d(2, 2, 3)
    )
    found = collect_module(network)
    assert [layer.name for layer in found.layers] == ["0"]
    assert {each.name: each.reason for each in found.skipped} == {
        "1": "1 x 1 kernels have no shape",
        "2": "kernels of even size have no centre",
        "3": "kernels larger than 7 are not stencils",
    }


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Linear(3, 3), "no kernels to analyse"),
        (nn.Conv2d(1, 1, 1), "1 x 1 kernels have no shape"),
        (nn.Sequential(nn.LazyConv2d(3, 3)), "has no weights yet"),
        (nn.Conv2d(1, 1, 3, device="meta"), "has no numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_networks_without_kernels_are_told(network: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words):
        collect_module(network)


def test_weights_that_are_not_finite_name_their_layer() -> None:
    network: Any = small()
    with torch.no_grad():
        network[3].weight[1, 2, 0, 0] = float("nan")
        network[3].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(InputError, match="2 of 216 weights of 3 are not finite"):
        collect_module(network)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # deprecated, and still in people's files
def test_half_precision_and_quantised_weights_are_read_as_the_numbers_they_hold() -> None:
    network: Any = small()
    half = collect_module(copy.deepcopy(network).half()).layers[0]
    assert np.array_equal(half.kernels, network[0].weight.half().float().detach().numpy())
    weight = network[0].weight.detach()
    quantised = torch.quantize_per_tensor(weight, float(weight.abs().max() / 127), 0, torch.qint8)
    (layer,) = collect_state({"a.weight": quantised}).layers
    assert np.array_equal(layer.kernels, quantised.dequantize().numpy())
    assert float(np.abs(layer.kernels - weight.numpy()).max()) < float(weight.abs().max() / 127)


def test_the_gain_of_a_norm_behind_or_before_is_multiplied_in() -> None:
    network: Any = small().eval()
    with torch.no_grad():
        network[1].running_var.uniform_(0.5, 2.0)
        network[1].weight.uniform_(0.5, 2.0)
    plain, folded = collect_module(network).layers, collect_module(network, fold_norm=True).layers
    gain = (network[1].weight / torch.sqrt(network[1].running_var + network[1].eps)).detach().numpy()
    assert np.allclose(folded[0].kernels, plain[0].kernels * gain[:, None, None, None], rtol=1e-6)
    assert folded[0].gain
    assert np.array_equal(folded[1].kernels, plain[1].kernels)
    first: Any = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, groups=2))
    with torch.no_grad():
        first[0].weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    before, after = collect_module(first).layers[0], collect_module(first, fold_norm=True).layers[0]
    ratio = after.kernels / before.kernels
    _, ins = after.channels()
    assert np.allclose(ratio.reshape(4, -1), (ins + 1)[:, None] / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_an_input_that_cannot_be_traced_is_a_note() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, one: Tensor, two: Tensor) -> Tensor:
            return self.conv(one) + two

    found = collect_module(Strange(), image=(32, 32))
    assert found.layers[0].input_size is None
    assert "could not be traced" in found.notes[-1]


# -- sources


def test_names_files_and_modules_are_one_network(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    named = open_source("nnunet-hippocampus-3d")
    assert named.network is not None
    assert named.card is not None
    again = open_source(named.network)
    kernels = [collect_module(source.network) for source in (named, again) if source.network]
    state = {key: value.contiguous() for key, value in named.network.state_dict().items()}
    save_file(state, tmp_path / "bare.safetensors")
    torch.save({"state_dict": {"module." + key: value for key, value in state.items()}}, tmp_path / "weights.pth")
    for name in ("bare.safetensors", "weights.pth"):
        bare = open_source(tmp_path / name)
        assert bare.network is None
        kernels.append(collect_state(bare.state or {}))
    contents = [{layer.kernels.tobytes() for layer in found.layers} for found in kernels]
    assert all(content == contents[0] for content in contents)


def test_a_folder_of_nnunet_is_read_with_its_structure() -> None:
    source = open_source(NNUNET)
    assert source.network is not None
    assert source.notes == ("Fold 0 was taken.",)
    assert open_source(NNUNET, fold="1").content_hash != source.content_hash
    found = collect_module(source.network)
    bare = open_source(NNUNET / "fold_0" / "checkpoint_final.pth")
    held = {layer.kernels.tobytes() for layer in collect_state(bare.state or {}).layers}
    assert {layer.kernels.tobytes() for layer in found.layers} == held


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(FileError, match="was not opened"):
        open_source(tmp_path / "evil.pth")
    assert "run" not in capsys.readouterr().out


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    for source in ("no-such-model", tmp_path / "text.txt", tmp_path, 7):
        with pytest.raises((FileError, InputError)):
            open_source(source)


def test_what_was_collected_stays_when_the_network_is_trained_on() -> None:
    network = small()
    found = collect_module(network)
    before = [layer.kernels.copy() for layer in found.layers]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    assert all(np.array_equal(layer.kernels, old) for layer, old in zip(found.layers, before, strict=True))
    bare = collect_state(network.state_dict())
    before = [layer.kernels.copy() for layer in bare.layers]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    assert all(np.array_equal(layer.kernels, old) for layer, old in zip(bare.layers, before, strict=True))
