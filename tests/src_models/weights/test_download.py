"""Downloads from a real server on this machine: cut, resumed, wrong, absent, two at once; nothing half is ever kept."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src_models.errors import FileError, InputError, LsnetError, SaveError
from src_models.progress import finish
from src_models.weights import store
from src_models.weights.download import download, offer_named
from src_models.weights.manifest import Manifest, Offer
from src_models.weights.pairs import read_card
from tests.src_models.weights.models import card_for, small_network
from tests.src_models.weights.server import Server


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine stands between the test and its server."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = small_network(base_width=16)
    made = tmp_path / "made"
    made.mkdir()
    store.save(network, card_for(network, name="far-away"), made)
    return made / "far-away@1.safetensors"


@pytest.fixture
def server(model: Path) -> Iterator[Server]:
    running = Server(model.read_bytes())
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def offer(model: Path, server: Server) -> Offer:
    card = read_card(model)
    return Offer(
        urls=(server.address(),),
        sha256=card.sha256,
        size_bytes=card.size_bytes,
        licence=card.weights_licence,
        card=card,
    )


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


PAIR = ["far-away@1.json", "far-away@1.safetensors"]


def test_a_download_is_the_model(offer: Offer, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "models"
    reports: list[float] = []
    entry = finish(download(offer, folder), lambda p: reports.append(p.fraction or 0.0))
    assert (entry.state, entry.name) == ("installed", "far-away")
    assert _files(folder) == PAIR
    assert reports[-1] == 1.0
    loaded = store.load("far-away", folder, manifest=Manifest(), shipped=tmp_path / "none")
    assert loaded.card == read_card(model)
    x = torch.rand(1, 1, 20, 20)
    assert torch.equal(loaded.network(x), store.load(model).network(x))


def test_nothing_is_asked_for_twice(offer: Offer, server: Server, tmp_path: Path) -> None:
    finish(download(offer, tmp_path))
    finish(download(offer, tmp_path))
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_gone_on_with(offer: Offer, server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    server.cut_after = [100_000, 150_000] if ranges else [100_000]
    assert finish(download(offer, tmp_path / "cache")).state == "installed"
    starts = [int(asked.rpartition("bytes=")[2].rstrip("-")) for asked in server.asked[1:]]
    assert len(starts) == (2 if ranges else 1)
    # what had come is not asked for again, but for the last piece
    assert 80_000 < starts[0] <= 100_000
    assert not ranges or 220_000 < starts[1] <= starts[0] + 150_000
    assert _files(tmp_path / "cache") == PAIR


def test_a_server_that_always_cuts_leaves_a_part_for_next_time(offer: Offer, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    server.cut_after = [60_000, 0, 0, 0]
    with pytest.raises(FileError) as told:
        finish(download(offer, folder))
    for word in ("far-away@1.safetensors", str(folder), offer.sha256):
        assert word in str(told.value)
    (left,) = _files(folder)
    assert left.endswith(".part")
    server.cut_after = []
    assert finish(download(offer, folder)).state == "installed"
    assert int(server.asked[-1].rpartition("bytes=")[2].rstrip("-")) > 40_000
    assert _files(folder) == PAIR


def test_closing_stops_at_once_and_the_next_one_goes_on(offer: Offer, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    server.pause_s = 0.02
    work = download(offer, folder)
    while next(work).values.get("downloaded_bytes", 0) < 8192:
        pass
    began = time.monotonic()
    work.close()
    assert time.monotonic() - began < 0.5
    assert [name.endswith("left.part") for name in _files(folder)] == [True]
    server.pause_s = 0.0
    assert finish(download(offer, folder)).state == "installed"
    assert "bytes=" in server.asked[-1]


def test_a_silent_server_does_not_hold_up_stopping(offer: Offer, server: Server, tmp_path: Path) -> None:
    server.pause_s = 5.0
    work = download(offer, tmp_path / "cache")
    reports = []
    began = time.monotonic()
    for _ in range(5):
        next(work)
        reports.append(time.monotonic() - began)
    assert max(b - a for a, b in itertools.pairwise(reports)) < 0.4
    began = time.monotonic()
    work.close()
    assert time.monotonic() - began < 0.5


def test_a_wrong_file_is_never_kept(offer: Offer, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    server.content = bytes(reversed(server.content))
    with pytest.raises(FileError, match="SHA-256 begins with"):
        finish(download(offer, folder))
    assert _files(folder) == []


def test_a_file_that_does_not_end_is_stopped(offer: Offer, server: Server, tmp_path: Path) -> None:
    server.content += b"x" * 100_000
    with pytest.raises(FileError, match="more than the file"):
        finish(download(offer, tmp_path / "cache"))
    assert _files(tmp_path / "cache") == []


def test_the_next_mirror_is_asked(offer: Offer, server: Server, tmp_path: Path) -> None:
    broken = offer.model_copy(update={"urls": ("http://127.0.0.1:9/model.safetensors", server.address())})
    assert finish(download(broken, tmp_path / "cache")).state == "installed"


def test_an_address_or_a_mirror_of_the_user_is_asked_first(offer: Offer, server: Server, tmp_path: Path) -> None:
    far = offer.model_copy(update={"urls": ("http://127.0.0.1:9/model.safetensors",)})
    finish(download(far, tmp_path / "a", url=server.address("other.safetensors")))
    finish(download(far, tmp_path / "b", url=server.address("mirror/")))
    assert server.asked == ["/other.safetensors", "/mirror/far-away@1.safetensors"]
    with pytest.raises(InputError, match="no address"):
        finish(download(far, tmp_path / "c", url="file:///etc/passwd"))


def test_a_proxy_is_asked_in_place_of_the_server(offer: Offer, server: Server, tmp_path: Path) -> None:
    """The test's server stands for a proxy: it is asked for the whole address of another machine."""
    far = offer.model_copy(update={"urls": ("http://models.invalid/model.safetensors",)})
    proxy = server.address("").rstrip("/")
    assert finish(download(far, tmp_path / "cache", proxy=proxy)).state == "installed"
    assert server.asked == ["http://models.invalid/model.safetensors"]


def test_the_proxy_of_the_system_holds(
    offer: Offer, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address("").rstrip("/"))
    far = offer.model_copy(update={"urls": ("http://models.invalid/model.safetensors",)})
    assert finish(download(far, tmp_path / "cache")).state == "installed"


@pytest.mark.parametrize("kind", ["offline", "nobody", "missing"])
def test_without_a_network_the_file_folder_and_hash_are_named(
    offer: Offer, server: Server, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "cache"
    if kind == "nobody":
        offer = offer.model_copy(update={"urls": ("http://127.0.0.1:9/model.safetensors",)})
    server.status = 404 if kind == "missing" else 200
    with pytest.raises(FileError) as told:
        finish(download(offer, folder, offline=kind == "offline"))
    said = str(told.value)
    for word in ("far-away@1.safetensors", str(folder), offer.sha256):
        assert word in said
    assert "\n" not in said
    assert {"offline": "offline", "nobody": "no connection", "missing": "answered 404"}[kind] in said
    assert (len(server.asked) > 0) == (kind == "missing")


def test_a_file_put_there_by_hand_is_taken(offer: Offer, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / model.name).write_bytes(model.read_bytes())
    assert finish(download(offer, folder, offline=True)).state == "installed"
    assert _files(folder) == PAIR


def test_two_at_once_give_one_whole_model(offer: Offer, server: Server, tmp_path: Path) -> None:
    """Turn by turn, so that both are under way together; each has a part of its own."""
    server.pause_s = 0.005
    folder = tmp_path / "cache"
    works = [download(offer, folder) for _ in range(2)]
    most = 0
    done = []
    while works:
        for work in tuple(works):
            try:
                next(work)
            except StopIteration as end:
                done.append(end.value)
                works.remove(work)
        most = max(most, len([name for name in _files(folder) if name.endswith(".part")]))
    assert most == 2
    assert [entry.state for entry in done] == ["installed", "installed"]
    assert _files(folder) == PAIR
    assert hashlib.sha256((folder / PAIR[1]).read_bytes()).hexdigest() == offer.sha256


def test_what_a_killed_process_left_is_gone_on_with(offer: Offer, server: Server, tmp_path: Path) -> None:
    server.pause_s = 0.01
    folder = tmp_path / "cache"
    file = tmp_path / "manifest.json"
    file.write_text(Manifest(models=(offer,)).model_dump_json(), encoding="utf-8")
    code = f"""
import os, signal
from pathlib import Path
from src_models.weights.download import download, offer_named
from src_models.weights.manifest import read_manifest
for report in download(offer_named("far-away", read_manifest(Path({str(file)!r}))), {str(folder)!r}):
    if report.values["downloaded_bytes"] > 8192:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    if sys.platform == "win32":
        pytest.skip("there is no SIGKILL")
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False, timeout=60)
    assert len(_files(folder)) == 1
    server.pause_s = 0.0
    assert finish(download(offer, folder)).state == "installed"
    assert "bytes=" in server.asked[-1]
    assert _files(folder) == PAIR


def test_a_folder_without_rights_is_told(offer: Offer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(SaveError, match="was not downloaded"):
        finish(download(offer, blocked / "models"))
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(SaveError, match="was not downloaded"):
            finish(download(offer, closed))


def test_only_what_the_manifest_names_can_be_downloaded(offer: Offer) -> None:
    manifest = Manifest(models=(offer,))
    assert offer_named("far-away", manifest) == offer_named("far-away@1", manifest) == offer
    with pytest.raises(LsnetError, match="there are: far-away"):
        offer_named("near", manifest)
