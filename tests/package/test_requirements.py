"""The base dependencies: free of caps, of Qt and of copyleft, each one in use."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BASE = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
GROUPS = PROJECT["dependency-groups"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
QT_BINDINGS = {"pyqt5", "pyqt6", "pyqt6-qt6", "pyside2", "pyside6", "pyside6-essentials"}

# Declared for their floor only: napari brings them, and older ones would not do.
FLOOR_ONLY = {"npe2"}  # before 0.9 it cannot route .nii.gz or .seg.nrrd to a writer

# Come with a declared package on some platforms, and are tried before they are used.
WHERE_THERE = {"triton"}  # with torch's builds for NVIDIA cards

# Brought by an extra; where it is not installed a sentence says which.
BY_AN_EXTRA = {
    "distributed": "large",
    "matplotlib": "kernels",
    "nnunetv2": "nnunet",
    "pyarrow": "kernels",
    "zarr": "large",
}

# Parts of a declared package that have a distribution of their own, at an exact version chosen by it.
PARTS = {"pydantic_core": "pydantic"}


def _all_requirements() -> list[Requirement]:
    texts = [text for part in (*GROUPS.values(), *EXTRAS.values()) for text in part if isinstance(text, str)]
    build = PROJECT["build-system"]["requires"]
    return BASE + [Requirement(text) for text in (*texts, *build)]


def _base_tree() -> dict[str, metadata.Distribution]:
    """Every installed distribution that the base dependencies bring, by canonical name."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(requirement.name, frozenset(requirement.extras)) for requirement in BASE]
    while waiting:
        name, extras = waiting.pop()
        key = (canonicalize_name(name), extras)
        if key in seen:
            continue
        seen.add(key)
        distribution = metadata.distribution(name)
        found[key[0]] = distribution
        for text in distribution.requires or ():
            requirement = Requirement(text)
            environments = [default_environment() | {"extra": extra} for extra in ("", *extras)]
            if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_no_upper_caps() -> None:
    for requirement in _all_requirements():
        operators = {part.operator for part in requirement.specifier}
        assert operators <= {">=", "!="}, f"{requirement} has a cap"
    assert re.fullmatch(r">=\d+\.\d+", PROJECT["project"]["requires-python"])


def test_every_base_dependency_has_a_floor() -> None:
    for requirement in BASE:
        assert any(part.operator == ">=" for part in requirement.specifier), requirement


def test_installing_the_plugin_brings_no_qt_binding() -> None:
    assert not QT_BINDINGS & set(_base_tree())


def test_no_dependency_is_under_the_gpl() -> None:
    tree = _base_tree()
    assert len(tree) > 40, "the tree of dependencies was not walked"
    copyleft = re.compile(r"(?<![A-Za-z])(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
    guilty = {}
    for name, distribution in tree.items():
        about = distribution.metadata
        licence = [about.get("License-Expression") or "", *(about.get_all("Classifier") or [])]
        if not about.get("License-Expression"):
            licence.append((about.get("License") or "")[:200])
        words = [text for text in licence if copyleft.search(text)]
        if words:
            guilty[name] = words
    assert not guilty


def _imported_modules() -> set[str]:
    modules = set()
    for folder in ("napari_lsnet", "src_models"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize(
    "requirement", [r for r in BASE if r.name not in FLOOR_ONLY], ids=lambda requirement: requirement.name
)
def test_every_base_dependency_is_imported(requirement: Requirement) -> None:
    provided = {
        module
        for module, names in metadata.packages_distributions().items()
        if canonicalize_name(requirement.name) in {canonicalize_name(name) for name in names}
    }
    assert provided & _imported_modules(), f"nothing imports {requirement.name}"


def test_every_third_party_import_is_a_base_dependency() -> None:
    """What the packages import comes with them: napari and its own tree are not to be relied on silently."""
    ours = {"napari_lsnet", "src_models"}
    declared = {canonicalize_name(requirement.name) for requirement in BASE}
    owners = metadata.packages_distributions()
    missing = {
        module
        for module in _imported_modules()
        - ours
        - WHERE_THERE
        - set(BY_AN_EXTRA)
        - set(sys.stdlib_module_names)
        - {"__future__"}
        if not declared & {canonicalize_name(name) for name in owners.get(PARTS.get(module, module), ())}
    }
    assert not missing
    for module, extra in BY_AN_EXTRA.items():
        assert module in {Requirement(text).name for text in EXTRAS[extra]}
        assert module in _imported_modules()


def test_constraints_pin_exact_public_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    pinned = {canonicalize_name(pin.split("==")[0]) for pin in pins}
    wanted = {
        canonicalize_name(requirement.name)
        for requirement in (*BASE, *map(Requirement, GROUPS["test"] + GROUPS["lint"]))
    }
    assert wanted <= pinned
