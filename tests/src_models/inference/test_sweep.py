"""Windows, sums and export together: nothing is lost between them, and nothing is larger than said."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src_models.errors import DeviceError
from src_models.inference.export import AxisMap, Classes, Export, Targets
from src_models.inference.memory import check_limit
from src_models.inference.parameters import PredictionParameters
from src_models.inference.passes import Passes
from src_models.inference.predict import predict
from src_models.inference.prepared import lay_out, uncropped
from src_models.inference.ring import Ring
from src_models.inference.sweep import Sweep
from src_models.inference.tiling import Tiling
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.networks.zoo import build
from src_models.weights.card import Label
from src_models.weights.model import Model
from tests.src_models.inference.nets import Pointwise, Smooth, model, run, stacked

RNG = np.random.default_rng(7)


@dataclass
class Collected:
    """Takes finished planes, as `Export` does, and keeps them."""

    done: int = 0
    done_coarse: int = 0
    planes: list[Tensor] = field(default_factory=list)

    def add(self, planes: Tensor) -> None:
        self.planes.append(planes.clone())
        self.done += planes.shape[1]
        self.done_coarse = self.done

    def restart(self) -> None:
        """Nothing is held back here."""


def logits_of(one: Model, image: np.ndarray, tiling: Tiling, window: tuple[int, ...] | None = None) -> Tensor:
    """What the windows of a sweep give together, in array order."""
    ndim = image.ndim
    way = uncropped(image.shape, (1.0,) * ndim, one.card.preprocessing)
    layout = lay_out(way, one.card, window, pad=tiling.halo is None)
    data = layout.padded_input(image[None].astype(np.float32))
    collected = Collected()
    sweep = Sweep(data, layout, Passes([one], torch.device("cpu")), tiling, collected, "none")  # type: ignore[arg-type]
    list(sweep.run())
    swept = torch.cat(collected.planes, 1)
    return swept.permute(0, *(layout.axes.index(k) + 1 for k in range(3))).reshape(-1, *image.shape)


@pytest.mark.parametrize("step", [0.25, 0.5, 0.9])
def test_the_identity_comes_back_to_rounding(step: float) -> None:
    image = RNG.normal(size=(21, 30, 17)).astype(np.float32)
    one = model(Pointwise(2, 3, stacked(lambda x: x, lambda x: 2 * x)), (8, 12, 9))

    logits = logits_of(one, image, Tiling(step))

    assert np.abs(logits[0].numpy() - image).max() <= 2e-6 * np.abs(image).max()


@pytest.mark.parametrize("shape", [(37, 50), (16, 16), (9, 61), (23, 18, 31)])
def test_exact_tiles_give_what_the_whole_image_gives(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = Smooth(len(shape)).eval()
    image = RNG.normal(size=shape).astype(np.float32)
    one = model(net, (8,) * len(shape))
    with torch.inference_mode():
        whole = net(torch.from_numpy(image)[None, None])[0]

    tiled = logits_of(one, image, Tiling(0.5, net.receptive_field().reach, net.stride))

    assert (tiled - whole).abs().max() <= 1e-5 * whole.abs().max()


class LongSighted(Network):
    """Reaches 4 voxels along its last axis and 1 along its second, with a stride along its last alone."""

    name = "long-sighted"

    def __init__(self) -> None:
        super().__init__(1, 2, 3, NetworkOptions())
        self.stride = (1, 1, 2)
        self.layers = nn.Sequential(
            nn.Conv3d(1, 2, (1, 3, 5), padding=(0, 1, 2)), nn.MaxPool3d((1, 1, 2)),
            nn.Conv3d(2, 2, (1, 1, 3), padding=(0, 0, 1)), nn.ConvTranspose3d(2, 2, (1, 1, 2), (1, 1, 2)),
        )  # fmt: skip

    def compute(self, x: torch.Tensor) -> NetOutput:
        return NetOutput(self.layers(x))


@pytest.mark.parametrize("shape", [(40, 9, 12), (9, 40, 12), (9, 10, 40)])
def test_the_halo_of_exact_tiles_belongs_to_the_axes_of_the_network(shape: tuple[int, int, int]) -> None:
    """Whichever axis is swept."""
    torch.manual_seed(3)
    net = LongSighted().eval()
    image = RNG.normal(size=shape).astype(np.float32)
    with torch.inference_mode():
        whole = net(torch.from_numpy(image)[None, None])[0].softmax(0).numpy()

    tiled = run(model(net, (4, 4, 4)), image, (1.0, 1.0, 1.0), tile="exact", probabilities=True, precision="fp32")

    np.testing.assert_allclose(tiled.probabilities, whole, atol=1e-3)


def test_exact_tiles_of_a_unet_with_batch_norm() -> None:
    torch.manual_seed(0)
    net = build("unet", 1, 3, 2, base_width=4, depth=3, norm="batch").eval()
    image = RNG.normal(size=(70, 93)).astype(np.float32)
    one = model(net, (32, 32))
    with torch.inference_mode():
        whole = net(torch.from_numpy(image)[None, None])[0].numpy()

    labels = run(one, image, (1.0, 1.0), tile="exact", probabilities=True)

    np.testing.assert_allclose(labels.probabilities, torch.softmax(torch.from_numpy(whole), 0), atol=1e-3)
    assert (labels.labels == whole.argmax(0)).mean() > 0.9999


@pytest.mark.parametrize("options", [{"steps": 3}, {"steps": [2, 1], "start": "threshold"}], ids=str)
def test_exact_tiles_of_a_level_set_network(options: dict[str, object]) -> None:
    """Its steps count: each sees two voxels further."""
    torch.manual_seed(4)
    net = build("lsn", 1, 2, 2, stem_layers=2, **options).eval()
    if options.get("start") is None:
        net.start.last.bias.data.zero_()  # a fresh stem begins outside everywhere
    image = RNG.normal(size=(70, 45)).astype(np.float32)
    whole = run(model(net, (70, 45)), image, (1.0, 1.0), tile="exact", probabilities=True)
    tiled = run(model(net, (16, 16)), image, (1.0, 1.0), tile="exact", probabilities=True)
    assert np.array_equal(tiled.labels, whole.labels)
    assert tiled.labels.any()
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=2e-3)
    assert tiled.record.result["windows"] > whole.record.result["windows"]


def test_an_image_smaller_than_the_window_is_not_padded_for_a_level_set_network() -> None:
    """Zeros are the grey value of the structure there; the network replicates what it sees."""
    torch.manual_seed(4)
    net = build("lsn", 1, 2, 2, steps=2, stem_layers=2).eval()
    image = RNG.normal(size=(20, 23)).astype(np.float32)
    small, large = (run(model(net, side), image, (1.0, 1.0), probabilities=True) for side in ((20, 23), (64, 64)))
    assert np.array_equal(small.probabilities, large.probabilities)


def test_a_halo_one_stride_short_is_not_exact() -> None:
    """The reach is really needed: the test above would fail with less."""
    torch.manual_seed(0)
    net = Smooth(2).eval()
    image = RNG.normal(size=(37, 50)).astype(np.float32)
    with torch.inference_mode():
        whole = net(torch.from_numpy(image)[None, None])[0]

    tiled = logits_of(model(net, (8, 8)), image, Tiling(0.5, ((0, 0), (0, 0)), net.stride))

    assert (tiled - whole).abs().max() > 1e-3 * whole.abs().max()


def test_instance_norm_cannot_be_tiled_exactly_and_the_seam_is_reported() -> None:
    torch.manual_seed(0)
    net = build("unet", 1, 2, 2, base_width=4, depth=2).eval()

    result = run(model(net, (16, 16)), RNG.normal(size=(40, 40)), (1.0, 1.0), tile="exact")

    assert any("no tiles are exact" in note for note in result.notes)
    assert 0 < result.record.result["seam_difference"] < 1


class OutOfMemory(Smooth):
    """Has room for small windows only, as a card with little memory."""

    limit = 600

    def compute(self, x: Tensor):  # type: ignore[no-untyped-def]
        if x.device.type != "meta" and x[0, 0].numel() > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().compute(x)


def test_lack_of_memory_halves_the_window_and_goes_on() -> None:
    torch.manual_seed(0)
    net = OutOfMemory(2).eval()
    image = RNG.normal(size=(100, 40)).astype(np.float32)
    small = model(net, (24, 24))

    result = run(model(net, (48, 48)), image, (1.0, 1.0))

    assert result.complete
    assert result.record.result["rescues"] == list(result.notes[: len(result.record.result["rescues"])])
    assert "halved to" in result.notes[0]
    assert "labels may differ" in result.notes[0]
    net.limit = 10**9
    assert (result.labels == run(small, image, (1.0, 1.0)).labels).mean() > 0.95


def test_after_a_rescue_finished_slabs_stay_and_the_rest_is_right() -> None:
    """Memory runs out in the middle: a pointwise network shows that no plane is lost or done from half the windows."""

    class Later(Pointwise):
        calls = 0

        def compute(self, x: Tensor):  # type: ignore[no-untyped-def]
            self.calls += x.device.type != "meta"
            if self.calls == 3:
                raise MemoryError
            return super().compute(x)

    image = RNG.normal(size=(90, 20, 20)).astype(np.float32)
    net = Later(2, 3, stacked(lambda x: 0 * x, lambda x: x))

    result = run(model(net, (32, 20, 20), spacing=(1.0,) * 3), image, (0.7, 1.0, 1.0), probabilities=True)
    net.calls = 100
    whole = run(model(net, (32, 20, 20), spacing=(1.0,) * 3), image, (0.7, 1.0, 1.0), probabilities=True)

    assert len(result.record.result["rescues"]) == 1
    np.testing.assert_array_equal(result.labels, whole.labels)
    np.testing.assert_allclose(result.probabilities, whole.probabilities, atol=1e-3)


def test_without_memory_for_the_smallest_window_it_stops_with_a_sentence() -> None:
    net = OutOfMemory(2)
    net.limit = 0

    with pytest.raises(DeviceError, match="smallest window"):
        run(model(net, (48, 48)), RNG.normal(size=(60, 60)), (1.0, 1.0))


def test_a_prediction_that_needs_too_much_is_refused_before_it_starts() -> None:
    """105 classes on a whole CT: told, not killed."""
    image = np.broadcast_to(np.int16(1), (600, 512, 512))
    one = model(Pointwise(105, 3, lambda x: x.expand(-1, 105, -1, -1, -1)), (128, 128, 128))

    with pytest.raises(DeviceError, match="of memory") as error:
        next(predict(one, image, (1.0,) * 3, PredictionParameters(probabilities=True, max_memory=16)))

    assert error.value.exit_code == 3


@pytest.mark.parametrize("classes", [2, 9])
@pytest.mark.parametrize("fine", [(40, 64, 50), (9, 30, 20), (20, 32, 25)])
def test_the_compiled_pass_is_the_torch_pass(classes: int, fine: tuple[int, int, int], monkeypatch) -> None:
    """Labels of both forms are equal but where two classes are equal to rounding."""
    coarse = torch.from_numpy(RNG.normal(size=(classes, 20, 32, 25)).astype(np.float32))
    maps = [AxisMap.between(c, f) for c, f in zip(coarse.shape[1:], fine, strict=True)]
    kinds = Classes(tuple(Label(name=str(k), value=k, channel=k) for k in range(classes)), "softmax")
    results = []
    for worth in (0, 10**12):
        monkeypatch.setattr("src_models.inference.export.WORTH_COMPILING", worth)
        labels = np.zeros(fine, np.uint8)
        export = Export(maps, kinds, Targets(labels))
        for part in coarse.split(3, 1):
            export.add(part)
        assert export.done == fine[0]
        results.append(labels)

    assert (results[0] == results[1]).mean() > 0.9999


def test_ties_go_to_the_lower_class_in_the_compiled_pass(monkeypatch) -> None:
    monkeypatch.setattr("src_models.inference.export.WORTH_COMPILING", 0)
    values = torch.from_numpy(RNG.integers(0, 2, size=(4, 6, 8, 8)).astype(np.float32))
    kinds = Classes(tuple(Label(name=str(k), value=k, channel=k) for k in range(4)), "softmax")
    labels = np.zeros((6, 8, 8), np.uint8)

    Export([AxisMap.between(n, n) for n in (6, 8, 8)], kinds, Targets(labels)).add(values)

    np.testing.assert_array_equal(labels, values.argmax(0))


def test_the_ring_is_as_thick_as_a_window() -> None:
    ring = Ring(5, 8, (10, 12), [0.0] * 5)

    assert ring.nbytes == (5 + 1) * 8 * 10 * 12 * 4


MEASURE = """
import ctypes, numpy as np, psutil, torch
from pathlib import Path
from src_models.inference import export
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.networks.network import NetOutput, Network, NetworkOptions
from src_models.networks.zoo import build
from tests.src_models.inference.nets import model
torch.set_num_threads(1)
torch.manual_seed(0)
net = build("unet", 1, 20, 3, base_width=4, depth=2)
small = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
image = np.random.default_rng(0).normal(size=(60, 128, 128)).astype(np.float32)
one = model(net, (16, 64, 64), spacing=(1.0, 1.0, 1.0), normalisation="zscore", order_image=3)
parameters = PredictionParameters(step=0.9)
export.WORTH_COMPILING = 0  # what is compiled once is not of this prediction
for step in predict(one, small, (0.9,) * 3, parameters):
    pass
ctypes.CDLL(None).malloc_trim(0)  # and what it left must not serve the next
work = predict(one, image, (0.9, 0.9, 0.9), parameters)
stated = next(work).values["peak_memory_gb"] * 1e9
before = psutil.Process().memory_info().rss
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
for step in work:
    pass
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(stated, int(status["VmHWM"].split()[0]) * 1024 - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is asked from the system")
def test_the_stated_peak_is_kept() -> None:
    """And it is no idle number: a good part of it is used."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    stated, used = (float(part) for part in done.stdout.split())

    assert used <= stated
    assert used >= 0.4 * stated


def test_the_limit_is_what_is_free_where_none_is_given() -> None:
    way = uncropped((8, 8, 8), (1.0,) * 3, model(Smooth(3), (8, 8, 8)).card.preprocessing)
    assert lay_out(way, model(Smooth(3), (8, 8, 8)).card).padded == (8, 8, 8)
    from src_models.inference.memory import MemoryForecast

    check_limit(MemoryForecast(0, 0, 0, 0, 0, 0), None)
    with pytest.raises(DeviceError):
        check_limit(MemoryForecast(2**60, 0, 0, 0, 0, 0), None)
