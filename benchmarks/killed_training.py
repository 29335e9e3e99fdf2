"""A training that is killed again and again ends with the weights of one that is left alone.

Trains a small UNet on the slices of ``sample_data`` twice with the command line, kills the second with SIGKILL at
moments drawn at random, goes on with ``--resume``, and compares the hashes. Writes ``docs/killed_training.md``.

    python benchmarks/killed_training.py [--kills 4]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "killed_training.md"
COMMAND = (
    *("train", str(ROOT / "sample_data" / "liver_slices"), "--net", "unet", "--groups", "(p[0-9]+)_"),
    *("--labels", "1=liver", "--set", "network.base_width=8", "--patch", "64,64", "--batch", "4"),
    *("--epochs", "6", "--iters", "6", "--seed", "3", "--device", "cpu"),
)


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    """Begin or go on."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "src_models.cli", *COMMAND, "--out", str(out), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end; its own words where it fails."""
    _, said = process.communicate()
    if process.returncode != 0:
        raise SystemExit(said.decode())


def weights(out: Path) -> str:
    """Hash of the final weights."""
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def epochs_done(out: Path) -> int:
    """Rows of the log."""
    log = out / "log.csv"
    return max(len(log.read_text(encoding="utf-8").splitlines()) - 1, 0) if log.exists() else 0


def main(kills: int) -> None:
    """Both trainings, and the page."""
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        begin = time.monotonic()
        finish(start(alone))
        whole = time.monotonic() - begin
        log = [f"left alone: {weights(alone)}"]
        draw = random.Random(7)
        for number in range(kills):
            process = start(killed, *(("--resume",) if (killed / "checkpoint.safetensors").exists() else ()))
            time.sleep(draw.uniform(0.3, 0.9) * whole)
            process.kill()
            process.wait()
            log.append(f"kill -9 number {number + 1}: {epochs_done(killed)} of 6 epochs are in the log")
            if (killed / "model.safetensors").exists():
                break
        finish(start(killed, "--resume"))
        log.append(f"killed and resumed: {weights(killed)}")
        log.append("equal" if weights(alone) == weights(killed) else "NOT EQUAL")
    print("\n".join(log))
    shown = " ".join(word.replace(str(ROOT) + "/", "") for word in COMMAND)
    text = "\n".join(log)
    PAGE.write_text(
        f"""# A training that was killed

Written by `python benchmarks/killed_training.py`; do not edit.

`lsnet {shown}`, once left alone, and once killed with SIGKILL at random moments and resumed with `--resume`. SHA-256 of
`model.safetensors`:

```
{text}
```
""",
        encoding="utf-8",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=4)
    main(parser.parse_args().kills)
