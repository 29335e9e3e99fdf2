"""The models panel in a real viewer: list, download, import, verify, remove; offline; damage in words."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
import torch
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_lsnet import settings
from napari_lsnet.models.import_dialog import AS_IT_SAYS, ImportDialog
from napari_lsnet.models.panel import ModelsPanel
from napari_lsnet.models.table import COLUMNS
from napari_lsnet.models.words import _score
from src_models.weights import store
from src_models.weights.importers import ImportOptions
from src_models.weights.manifest import Manifest, Offer
from src_models.weights.pairs import read_card
from tests.src_models.weights.models import card_for, small_network
from tests.src_models.weights.server import Server

NNUNET = Path(__file__).parents[1] / "data" / "nnunet"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves one model, "far-away"."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "made"
    made.mkdir()
    network = small_network(base_width=16)
    store.save(network, card_for(network, name="far-away"), made)
    running = Server((made / "far-away@1.safetensors").read_bytes())
    running.card = read_card(made / "far-away@1.json")
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "models"
    place.mkdir()
    monkeypatch.setenv("LSNET_MODELS", str(place))
    return place


@pytest.fixture
def panel(npe2pm, make_napari_viewer, qtbot, tmp_path, monkeypatch, folder, server):
    """Two installed models, one of them cut short, and one to be had."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    network = small_network()
    for name in ("liver", "short"):
        store.save(network, card_for(network, name=name), folder)
    short = folder / "short@1.safetensors"
    short.write_bytes(short.read_bytes()[:-1])
    card = server.card
    offer = Offer(
        urls=(server.address(),),
        sha256=card.sha256,
        size_bytes=card.size_bytes,
        licence=card.weights_licence,
        card=card,
    )
    viewer = make_napari_viewer()
    panel = ModelsPanel(viewer, manifest=Manifest(models=(offer,)))
    viewer.window.add_dock_widget(panel, name="Manage models")
    panel.refresh()
    yield panel
    panel.cancel()
    qtbot.waitUntil(lambda: not panel.is_busy)


def rows(panel) -> dict[str, dict[str, str]]:
    table = panel.table
    found = {}
    for row in range(table.rowCount()):
        cells = {COLUMNS[column]: table.item(row, column).text() for column in range(table.columnCount())}
        found[cells["Name"]] = cells
    return found


def choose(panel, name: str) -> None:
    panel.table.selectRow([entry.name for entry in panel.table.entries].index(name))


def finished(panel, qtbot) -> None:
    qtbot.waitUntil(lambda: not panel.is_busy, timeout=30_000)


def test_the_table_says_what_there_is(panel):
    shown = rows(panel)
    for name, state in (("far-away", "available"), ("liver", "installed"), ("short", "damaged")):
        assert shown[f"{name}@1"]["State"] == state
    assert shown["liver@1"]["Task"] == "liver in CT slices"
    assert shown["liver@1"]["Licence"] == "CC-BY-SA-4.0"
    assert shown["liver@1"]["SHA-256"] == read_card(panel.folder / "liver@1.json").sha256
    choose(panel, "short")
    assert "cut short" in panel.card.toPlainText()
    choose(panel, "liver")
    assert "Research use only" in panel.card.toPlainText()
    assert "1 liver" in panel.card.toPlainText()


def test_the_buttons_follow_what_is_chosen(panel):
    def enabled() -> tuple[bool, bool, bool]:
        return panel.download_button.isEnabled(), panel.verify_button.isEnabled(), panel.remove_button.isEnabled()

    panel.table.clearSelection()
    assert enabled() == (False, True, False)
    assert panel.verify_button.text() == "Verify all"
    choose(panel, "far-away")
    assert enabled() == (True, True, False)
    choose(panel, "liver")
    assert enabled() == (False, True, True)
    assert not panel.cancel_button.isEnabled()


def test_a_download_is_listed_and_chosen(panel, qtbot, server):
    choose(panel, "far-away")
    assert server.asked == []
    panel.download_button.click()
    finished(panel, qtbot)
    assert rows(panel)["far-away@1"]["State"] == "installed"
    assert panel.table.entry.name == "far-away"
    assert panel.status.toPlainText().startswith("Downloaded far-away@1")
    assert store.load("far-away", panel.folder).card.name == "far-away"


def test_cancel_stops_and_the_next_download_goes_on(panel, qtbot, server):
    server.pause_s = 0.02
    choose(panel, "far-away")
    panel.download_button.click()
    qtbot.waitUntil(lambda: panel.bar.value() > 10, timeout=20_000)
    assert panel.cancel_button.isEnabled()
    assert not panel.import_file_button.isEnabled()
    panel.cancel_button.click()
    finished(panel, qtbot)
    assert "kept for the next time" in panel.status.toPlainText()
    assert rows(panel)["far-away@1"]["State"] == "available"
    server.pause_s = 0.0
    panel.download_button.click()
    finished(panel, qtbot)
    assert rows(panel)["far-away@1"]["State"] == "installed"
    assert "bytes=" in server.asked[-1]


def test_offline_says_which_file_goes_where(panel, qtbot, server):
    panel.offline.setChecked(True)
    assert settings.current().offline
    choose(panel, "far-away")
    panel.download_button.click()
    finished(panel, qtbot)
    said = panel.status.toPlainText()
    for word in ("far-away@1.safetensors", str(panel.folder), server.card.sha256):
        assert word in said
    assert server.asked == []
    settings.change(offline=False)
    assert not panel.offline.isChecked()


def test_verify_finds_a_changed_bit(panel, qtbot):
    file = panel.folder / "liver@1.safetensors"
    choose(panel, "liver")
    panel.verify_button.click()
    finished(panel, qtbot)
    assert panel.status.toPlainText() == "1 model verified: every hash is right."
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    panel.verify_button.click()
    finished(panel, qtbot)
    assert rows(panel)["liver@1"]["State"] == "damaged"
    panel.refresh()
    assert rows(panel)["liver@1"]["State"] == "damaged"
    assert "SHA-256 begins with" in panel.status.toPlainText()


def test_a_model_that_a_training_puts_there_is_listed(panel, qtbot):
    network = small_network()
    store.save(network, card_for(network, name="fresh"), panel.folder)
    qtbot.waitUntil(lambda: "fresh@1" in rows(panel), timeout=20_000)


def test_remove_asks_first(panel, monkeypatch):
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    choose(panel, "liver")
    panel.remove_button.click()
    assert "liver@1" in rows(panel)
    panel.remove_button.click()
    assert "liver@1" not in rows(panel)
    assert not list(panel.folder.glob("liver*"))


def test_an_nnunet_folder_comes_in_through_the_dialog(panel, qtbot, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(NNUNET / "plain"))
    panel.import_folder_button.click()
    qtbot.waitUntil(lambda: bool(panel.findChildren(ImportDialog)), timeout=60_000)
    (dialog,) = panel.findChildren(ImportDialog)
    assert dialog.network.currentText() == AS_IT_SAYS
    assert dialog.network.findText("nnunet") > 0
    dialog.licence.setText("CC-BY-4.0")
    dialog.accept()
    finished(panel, qtbot)
    assert rows(panel)["nnunet-plain-3d_fullres-fold1@1"]["Licence"] == "CC-BY-4.0"


def test_a_foreign_file_shows_its_hash_before_it_is_opened(panel, qtbot, tmp_path, monkeypatch):
    network = small_network()
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(file), ""))
    panel.import_file_button.click()
    qtbot.waitUntil(lambda: bool(panel.findChildren(ImportDialog)), timeout=60_000)
    (dialog,) = panel.findChildren(ImportDialog)
    shown = dialog.hash.text().removeprefix("SHA-256: ").replace(" ", "").replace("\n", "")
    assert shown == hashlib.sha256(file.read_bytes()).hexdigest()
    dialog.network.setCurrentText("unet")
    dialog.settings.setText("depth=2 base_width=4")
    dialog.name.setText("foreign")
    dialog.accept()
    finished(panel, qtbot)
    assert store.load("foreign", panel.folder).card.network == network.config
    assert "licence is not stated" in panel.status.toPlainText()


def test_what_cannot_be_imported_is_told_and_the_window_lives(panel, qtbot, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "ran",)

    file = tmp_path / "evil.pth"
    torch.save({"a": Evil()}, file)
    panel.import_path(file, ImportOptions(net="unet"))
    finished(panel, qtbot)
    assert "was not opened" in panel.status.toPlainText()
    assert not (tmp_path / "ran").exists()
    assert panel.import_file_button.isEnabled()


def test_open_folder_opens_that_folder(panel, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()) or True)
    panel.open_button.click()
    assert opened == [str(panel.folder)]


def test_marks_in_a_card_are_words_and_not_markup(panel):
    network = small_network()
    store.save(network, card_for(network, name="odd", task="<img src='http://127.0.0.1/x'> <b>liver</b>"), panel.folder)
    panel.refresh()
    choose(panel, "odd")
    assert "<b>liver</b>" in panel.card.toPlainText()


def test_the_folder_of_the_settings_holds(panel, tmp_path):
    other = tmp_path / "other"
    settings.change(model_folder=str(other))
    assert panel.folder == other
    assert "liver@1" not in rows(panel)
    settings.change(model_folder="")
    assert "liver@1" in rows(panel)


def test_scores_of_a_training_are_told_with_their_interval() -> None:
    """And those of others as they are."""
    ours = {"fold": "0", "name": "liver", "dice": 0.95, "low": 0.9, "high": 1.0, "patients": 7, "cases": 9}
    assert _score(ours) == "fold 0, liver: Dice 0.950 [0.900, 1.000], 7 patients"
    assert _score(ours | {"fold": "all but 2"}).startswith("all but 2, liver")
    assert _score({"Dice": 0.5, "n": 3}) == "Dice 0.500, n 3"


def test_the_table_takes_the_height_of_its_rows_until_a_person_moves_the_border(panel, qtbot) -> None:
    panel.setParent(None)
    qtbot.addWidget(panel)
    panel.resize(340, 900)
    with qtbot.waitExposed(panel):
        panel.show()
    panel.refresh()
    rows, card = panel._split.sizes()
    assert 0 < rows < card
    panel._split.moveSplitter(rows + 60, 1)
    moved = panel._split.sizes()
    panel.refresh()

    assert moved[0] == rows + 60
    assert panel._split.sizes() == moved
