"""The manifest: valid, found where napari looks, and every command behind it is really there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from npe2 import PluginManifest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "napari_lsnet" / "napari.yaml"
CONTENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
COMMANDS = CONTENT["contributions"]["commands"]


def test_manifest_is_valid_and_imports() -> None:
    manifest = PluginManifest.from_file(FILE)
    manifest.validate_imports()
    assert manifest.name == "napari-lsnet"
    assert manifest.display_name == "LSNet"
    assert manifest.visibility == "public"


def test_installed_plugin_is_found() -> None:
    manifest = PluginManifest.from_distribution("napari-lsnet")
    assert {command.id for command in manifest.contributions.commands or ()} == {c["id"] for c in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command["id"])
def test_command_imports(command: dict[str, str]) -> None:
    module, _, name = command["python_name"].partition(":")
    target = import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    assert callable(target)


def test_every_contribution_uses_a_command_that_exists() -> None:
    known = {command["id"] for command in COMMANDS}
    used = set()
    for kind in ("readers", "writers", "widgets", "sample_data"):
        used |= {entry["command"] for entry in CONTENT["contributions"].get(kind, ()) if "command" in entry}
    for entries in CONTENT["contributions"].get("menus", {}).values():
        used |= {entry["command"] for entry in entries if "command" in entry}
    assert used
    assert used <= known


def test_samples_are_commands() -> None:
    """A relative address would break in one of wheel and checkout."""
    samples = CONTENT["contributions"]["sample_data"]
    assert samples
    assert all("command" in sample for sample in samples)


def test_root_manifest_is_the_one_of_the_package() -> None:
    link = ROOT / "napari.yaml"
    # where git cannot make links, the file holds the path that the link would have
    text = FILE.relative_to(ROOT).as_posix()
    assert link.resolve() == FILE or link.read_text(encoding="utf-8").strip() == text
