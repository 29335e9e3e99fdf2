"""Several processes, started by torchrun as a user starts them: the same weights as one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src_models.training.checkpoint import load_checkpoint
from tests.src_models.training.tiny import discs, write_pictures

ROOT = Path(__file__).parents[3]
STEPS = 20


def trained(folder: Path, out: Path, *more: str, processes: int) -> dict[str, torch.Tensor]:
    """The weights after some steps of ``lsnet train`` in one or several processes."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words = ["src_models.cli", "train", str(folder), "--out", str(out), "--net", "unet", "--fold", "all"]
    numbers = ["--epochs", "1", "--iters", str(STEPS), "--batch", "4", "--patch", "16,16", "--device", "cpu"]
    options = ["network.depth=2", "network.base_width=4", "network.deep_supervision=true", "deep_supervision=true"]
    sets = [word for option in options for word in ("--set", option)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    given = [*start, *words, *numbers, *sets, "--optim", "sgd", *more]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(load_checkpoint(out / "checkpoint.safetensors").network)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path):
    """Batch Dice couples all samples of a batch, so this holds only where sums are exchanged before the division."""
    folder = write_pictures(tmp_path / "data", discs(5, (24, 24)))
    one = trained(folder, tmp_path / "one", processes=1)
    two = trained(folder, tmp_path / "two", processes=2)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5, msg=name)
