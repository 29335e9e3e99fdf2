"""What is committed belongs to everyone: no path of one machine in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Spelled apart, so that this file does not find itself.
FOLDERS = ("work", "root", "tmp")
MACHINE_PATH = re.compile(r"(?<![\w.~/$}-])/(" + "|".join(FOLDERS) + r")/\w")
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cff", ".json", ".html", ".csv", ".svg", ""}


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files are committed")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_machine_path_in_committed_text() -> None:
    files = [path for path in _tracked() if path.suffix in TEXT and path.is_file()]
    assert len(files) > 20
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


def test_sample_data_stays_small() -> None:
    sizes = [path.stat().st_size for path in _tracked() if path.is_relative_to(ROOT / "sample_data")]
    assert sizes
    assert sum(sizes) < 8 * 2**20
