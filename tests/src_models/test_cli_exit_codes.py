"""Exit codes of the commands, as a shell sees them: every command line here is a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src_models.files import read_segmentation
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Preprocessing
from src_models.record import Record
from src_models.weights.card import Label, ModelCard
from src_models.weights.store import save

SAMPLES = Path(__file__).parents[2] / "sample_data" / "liver_slices"
IMAGE = SAMPLES / "images" / "p004_s130.png"
LABEL = SAMPLES / "labels" / "p004_s130.png"
OTHER = Path(__file__).parents[2] / "sample_data" / "liver_ct" / "liver_ct.nii.gz"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small 2D network on the grid of the image, and files that are bad in their own ways."""
    folder = tmp_path_factory.mktemp("codes")
    torch.manual_seed(0)
    net = build("unet", 1, 2, 2, base_width=4, depth=2)
    labels = (Label(name="background", value=0, channel=0), Label(name="a", value=1, channel=1))
    card = ModelCard(
        name="small", network=net.config, ndim=2, patch=(32, 32), labels=labels, preprocessing=Preprocessing(unit="px")
    )
    save(net, card, folder)
    (folder / "broken.nii.gz").write_bytes(b"\x1f\x8bno image")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "small.png")
    (folder / "there.png").write_bytes(LABEL.read_bytes())
    return folder


def words_of(place: Path, *words: Any) -> list[str]:
    return [sys.executable, "-m", "src_models.cli", *(str(word) for word in words)]


def ends(command: list[str]) -> tuple[int, str]:
    """Exit code, and the one line on standard error."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", IMAGE], ""),
        (["evaluate", LABEL, LABEL], ""),
    ],
)
def test_done_is_0(words: list[Any], said: str, place: Path) -> None:
    assert ends(words_of(place, *words)) == (0, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["evaluate", LABEL], "required", id="words that cannot be read"),
        pytest.param(["evaluate", LABEL, LABEL, "--metrics", "mice"], "no metric mice", id="a value"),
        pytest.param(["info", "broken.nii.gz"], "broken.nii.gz", id="a file"),
        pytest.param(["evaluate", LABEL, "small.png"], "small.png", id="a grid"),
        pytest.param(["evaluate", LABEL, LABEL, "--out", "nowhere/a.csv"], "folder", id="a place to save"),
        pytest.param(
            ["evolve", IMAGE, "--point", "128,63:8", "--out", "there.png"], "exists already", id="an older result"
        ),
        pytest.param(
            ["predict", IMAGE, "--weights", "small@1.safetensors", "--out", "out", "--device", "mps"],
            "no mps device",
            id="a device",
            marks=pytest.mark.skipif(sys.platform == "darwin", reason="it may have that device"),
        ),
    ],
)
def test_bad_input_is_2(words: list[Any], said: str, place: Path) -> None:
    named = [place / word if isinstance(word, str) and "." in word else word for word in words]

    code, line = ends(words_of(place, *named))

    assert code == 2
    assert said in line


def test_a_forecast_above_what_is_allowed_is_3(place: Path) -> None:
    weights, out = place / "small@1.safetensors", place / "forecast"

    code, line = ends(words_of(place, "predict", IMAGE, "--weights", weights, "--out", out, "--max-memory", "0.001"))

    assert code == 3
    assert "of memory" in line
    assert not any(out.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be given less memory")
@pytest.mark.parametrize("room", [90, 200])
def test_memory_that_runs_out_is_3(room: int, place: Path) -> None:
    """The forecast sees the memory of the computer; this process may take less: it fails while it reads, or runs."""
    script = f"""
import resource, sys
import numpy as np, torch, PIL.Image, psutil
from PIL import Image
from src_models.cli import main
from src_models.inference.predict import predict
import src_models.weights.store
torch.nn.functional.conv2d(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 3, 3))
image = np.zeros((6000, 6000), np.uint8)
image[::7, ::5] = 99
Image.fromarray(image).save({str(place / "large.png")!r})
now = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (now + {room} * 2**20,) * 2)
words = ["predict", {str(place / "large.png")!r}, "--out", {str(place / "large")!r}]
sys.exit(main([*words, "--weights", {str(place / "small@1.safetensors")!r}]))
"""
    code, line = ends([sys.executable, "-c", script])

    assert code == 3, line
    assert "memory" in line
    assert not list(place.glob("large/*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_cancelled_with_a_usable_part_is_130(place: Path) -> None:
    weights, out = place / "small@1.safetensors", place / "part"
    words = ["predict", IMAGE, "--weights", weights, "--out", out, "--tile", "16", "--step", "0.02", "--keep-partial"]

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs behind it deaf to Ctrl-C

    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words_of(place, *words, "--json"), preexec_fn=listen, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("phase") == "predict":
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert json.loads(rest.splitlines()[-1])["complete"] is False
    assert Record.read(out / "p004_s130.lsnet.json").status == "partial"
    assert read_segmentation(out / IMAGE.name).labels.shape == (256, 256)
