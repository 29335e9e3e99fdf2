"""The wheel: the same from the tree and from the source archive, and whole in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _python(python: Path | str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([str(python), *arguments], cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One wheel from the tree, one from the source archive made of the tree."""
    built = {}
    for kind, option in (("tree", ["--wheel"]), ("archive", [])):
        out = tmp_path_factory.mktemp(kind)
        _python(sys.executable, "-m", "build", "--no-isolation", *option, "--outdir", str(out), str(ROOT), cwd=out)
        (built[kind],) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel in it.

    The dependencies are lent by the outer environment through a path file; its editable install of this package is
    not, because path files are not followed from there.
    """
    place = tmp_path_factory.mktemp("clean")
    _python(sys.executable, "-m", "venv", "--without-pip", str(place), cwd=place)
    scripts = place / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    install = ["-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    _python(sys.executable, *install, str(wheels["tree"]), cwd=place)
    libraries = Path(_python(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (libraries / "lent.pth").write_text("\n".join(sorted(lent)) + "\n", encoding="utf-8")
    return python


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_both_wheels_list_the_same_files(wheels: dict[str, Path]) -> None:
    assert _names(wheels["tree"]) == _names(wheels["archive"])


def test_wheel_holds_both_packages_samples_and_licence(wheels: dict[str, Path]) -> None:
    names = _names(wheels["tree"])
    sources = [
        path.relative_to(ROOT).as_posix()
        for folder in ("napari_lsnet", "src_models")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    samples = [
        (Path("napari_lsnet") / path.relative_to(ROOT)).as_posix()
        for path in (ROOT / "sample_data").rglob("*")
        if path.is_file()
    ]
    assert samples
    assert set(sources + samples) <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]


def test_clean_environment_finds_the_plugin(clean: Path) -> None:
    code = (
        "import napari_lsnet, pathlib, npe2\n"
        "manager = npe2.PluginManager.instance()\n"
        "manager.discover(include_npe1=False)\n"
        "manifest = manager.get_manifest('napari-lsnet')\n"
        "print(pathlib.Path(napari_lsnet.__file__).parents[1])\n"
        "print(len(manifest.contributions.commands), len(manifest.contributions.sample_data))\n"
    )
    where, counts = _python(clean, "-c", code, cwd=clean.parent).strip().splitlines()
    assert Path(where).is_relative_to(clean.parents[1])
    assert all(int(count) > 0 for count in counts.split())


def test_clean_environment_opens_the_samples(clean: Path) -> None:
    code = (
        "import npe2\n"
        "manager = npe2.PluginManager.instance()\n"
        "manager.discover(include_npe1=False)\n"
        "for sample in manager.get_manifest('napari-lsnet').contributions.sample_data:\n"
        "    layers = sample.open()\n"
        "    print(sample.key, [layer[0].shape for layer in layers])\n"
    )
    lines = _python(clean, "-c", code, cwd=clean.parent).strip().splitlines()
    assert lines
    assert all("(" in line for line in lines)


def test_clean_environment_has_the_command_line(clean: Path) -> None:
    text = (
        _python(clean.with_name("lsnet" + clean.suffix), "--help", cwd=clean.parent)
        if sys.platform != "win32"
        else (
            _python(
                clean,
                "-c",
                "import sys; sys.argv = ['lsnet', '--help']; from src_models.cli import main; main()",
                cwd=clean.parent,
            )
        )
    )
    assert "evolve" in text
