"""Settings are kept by napari where it can, else in a file; both have the names and defaults of the manifest."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import napari.settings
import npe2
import platformdirs
import pytest

from napari_lsnet import settings
from src_models.errors import InputError
from src_models.levelset.parameters import LevelSetParameters

MANIFEST = Path(importlib.util.find_spec("napari_lsnet").origin).parent / "napari.yaml"
by_napari = pytest.mark.skipif(
    not hasattr(napari.settings, "get_plugin_settings"), reason="napari keeps settings of plugins from 0.9"
)


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our own settings file, in a folder of this test, as before napari 0.9."""
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(settings, "plugin_settings", lambda: None)
    return tmp_path / "settings.toml"


@pytest.fixture
def kept_by_napari(request: pytest.FixtureRequest) -> object:
    """napari's own settings for this plugin, from the real manifest."""
    request.getfixturevalue("plugin_settings")
    manager = request.getfixturevalue("npe2pm")
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    return napari.settings.get_plugin_settings("napari-lsnet")


def test_the_manifest_says_what_the_model_says() -> None:
    declared = npe2.PluginManifest.from_file(MANIFEST).contributions.configurations[settings.CATEGORY].properties
    schema = settings.Settings.model_json_schema()["properties"]
    assert set(declared) == set(schema)
    for name, property_ in declared.items():
        told = property_.model_dump(by_alias=True, exclude_unset=True)
        assert told.pop("exclusive_minimum", told.pop("exclusiveMinimum", None)) == schema[name].get("exclusiveMinimum")
        for key in ("type", "title", "description", "default", "enum"):
            assert told.get(key) == schema[name].get(key), (name, key)


def test_without_a_file_the_defaults_hold(own_file: Path) -> None:
    assert settings.current() == settings.Settings()
    assert not own_file.exists()


def test_a_change_is_kept_and_told(own_file: Path) -> None:
    told: list[settings.Settings] = []
    end = settings.on_change(told.append)
    settings.change(device="cpu")
    assert settings.current().device == "cpu"
    assert [each.device for each in told] == ["cpu"]
    end()
    settings.change(keys_on=False)
    assert len(told) == 1
    assert settings.current() == settings.Settings(device="cpu", keys_on=False)


def test_a_damaged_file_counts_as_none(own_file: Path) -> None:
    own_file.write_text("[Settings]\ndevice = 'abacus'\n")
    assert settings.current() == settings.Settings()


@pytest.mark.parametrize("wrong", [{"device": "abacus"}, {"file_size_limit_gb": 0}, {"colour": "red"}])
def test_a_setting_that_there_is_not_is_refused(own_file: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"The setting {next(iter(wrong))} was not changed"):
        settings.change(**wrong)
    assert not own_file.exists()


@by_napari
def test_napari_s_preferences_are_read_and_written(kept_by_napari: object) -> None:
    assert settings.current() == settings.Settings()
    kept_by_napari.general.device = "cuda"
    assert settings.current().device == "cuda"
    settings.change(file_size_limit_gb=2.5)
    assert kept_by_napari.general.file_size_limit_gb == 2.5
    assert "2.5" in Path(kept_by_napari.config_path).read_text()


@by_napari
def test_a_change_in_napari_s_preferences_is_told(kept_by_napari: object) -> None:
    told: list[settings.Settings] = []
    end = settings.on_change(told.append)
    other = settings.on_change(lambda _: None)
    kept_by_napari.general.keys_on = False
    assert [each.keys_on for each in told] == [False]
    other()
    end()
    kept_by_napari.general.keys_on = True
    assert len(told) == 1


def test_the_parameters_of_the_last_run_come_back(own_file: Path) -> None:
    assert settings.last_used(LevelSetParameters) == LevelSetParameters()
    settings.remember(LevelSetParameters(curvature=0.31))
    assert settings.last_used(LevelSetParameters) == LevelSetParameters(curvature=0.31)


def test_a_home_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "taken")
    settings.remember(LevelSetParameters(curvature=0.31))
    assert settings.last_used(LevelSetParameters) == LevelSetParameters()
