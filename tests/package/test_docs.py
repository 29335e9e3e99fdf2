"""README and docs say what is true: their Python runs, their made pages are current, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from src_models.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def _page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture
def sample_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples run in a folder that holds the samples, as the folder of the project does."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    monkeypatch.chdir(tmp_path)


def _with(pattern: re.Pattern[str]) -> list[Path]:
    return [page for page in PAGES if pattern.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", _with(PYTHON), ids=_page_id)
@pytest.mark.usefixtures("sample_place")
def test_python_examples_run(page: Path) -> None:
    """The examples of a page run one after the other in one session."""
    session: dict[str, object] = {}
    for example in PYTHON.findall(page.read_text(encoding="utf-8")):
        exec(compile(example, str(page), "exec"), session)


@pytest.mark.parametrize("page", _with(SHELL), ids=_page_id)
@pytest.mark.usefixtures("sample_place")
def test_command_lines_run(page: Path) -> None:
    for example in SHELL.findall(page.read_text(encoding="utf-8")):
        for line in example.strip().splitlines():
            program, *words = shlex.split(line)
            assert program == "lsnet"
            assert main(words) == 0, line


def test_parameter_page_is_current() -> None:
    """Made by `make docs`."""
    spec = importlib.util.spec_from_file_location("make_parameters", ROOT / "docs" / "make_parameters.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_local_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
