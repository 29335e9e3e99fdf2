"""README and docs say what is true: their Python runs, their made pages are current, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from src_models.cli import main
from src_models.files import read_segmentation

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def _page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _with_examples() -> list[Path]:
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    return [page for page, text in texts.items() if PYTHON.search(text) or SHELL.search(text)]


def _run_examples(page: Path) -> None:
    """Run the command lines of a page, then its Python, each one after the other in one session."""
    text = page.read_text(encoding="utf-8")
    for line in "".join(SHELL.findall(text)).splitlines():
        program, *words = shlex.split(line)
        assert program == "lsnet"
        assert main(words) == 0, line
    session: dict[str, object] = {}
    for example in PYTHON.findall(text):
        exec(compile(example, str(page), "exec"), session)


@pytest.mark.parametrize("page", _with_examples(), ids=_page_id)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that holds the samples, as the folder of the project does."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)
    _run_examples(page)
    if page.name == "README.md":
        one, other = read_segmentation("liver.nii.gz"), read_segmentation("liver_from_python.nii.gz")
        assert np.array_equal(one.labels, other.labels), "README says that both ways give the same mask"


@pytest.mark.parametrize("maker", ["make_parameters", "make_networks"])
def test_made_page_is_current(maker: str) -> None:
    """Made by `make docs`."""
    spec = importlib.util.spec_from_file_location(maker, ROOT / "docs" / f"{maker}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_local_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
