"""`lsnet predict`: one file of labels per input, in its kind and on its grid; refusals in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from src_models.cli import main
from src_models.files import read_segmentation, read_volume
from src_models.inference.parameters import PredictionParameters
from src_models.inference.predict import predict
from src_models.networks.zoo import build
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.progress import finish
from src_models.record import Record, write_record
from src_models.weights.card import Label, ModelCard
from src_models.weights.store import load, save

RNG = np.random.default_rng(2)


def stored(folder: Path, ndim: int, channels: int = 1, spacing: Any = None, **card: Any) -> Path:
    """A small network with random weights, saved with its card."""
    torch.manual_seed(0)
    net = build("unet", channels, 3, ndim, base_width=4, depth=2)
    folder.mkdir(exist_ok=True)
    labels = tuple(Label(name=name, value=k * 3, channel=k) for k, name in enumerate(("background", "a", "b")))
    preprocessing = Preprocessing(channels=tuple(Channel(name=f"m{k}") for k in range(channels)), spacing=spacing)
    fields: dict[str, Any] = {"labels": labels, "preprocessing": preprocessing} | card
    save(net, ModelCard(name=f"net{ndim}d", network=net.config, ndim=ndim, patch=(16,) * ndim, **fields), folder)
    return next(folder.glob("*.safetensors"))


def picture(path: Path, shape: tuple[int, ...] = (30, 37)) -> Path:
    Image.fromarray(RNG.integers(0, 255, shape, dtype=np.uint8)).save(path)
    return path


def scan(path: Path, affine: np.ndarray, shape: tuple[int, int, int] = (20, 24, 12), seed: int = 5) -> Path:
    array = np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


LPS = np.array([[-1.5, 0, 0, 9], [0, -1, 0, 5], [0, 0, 2.5, -40], [0, 0, 0, 1.0]])


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_picture_gives_a_picture_of_label_numbers(tmp_path: Path) -> None:
    weights, image = stored(tmp_path / "w", 2), picture(tmp_path / "p007_s01.png")

    code = main(["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")])

    assert code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["p007_s01.lsnet.json", "p007_s01.png"]
    labels = np.asarray(Image.open(tmp_path / "out" / "p007_s01.png"))
    assert labels.shape == (30, 37)
    assert set(np.unique(labels)) <= {0, 3, 6}
    array = np.asarray(Image.open(image))
    again = finish(predict(load(weights), array, (1.0, 1.0), unit="px"))
    np.testing.assert_array_equal(labels, again.labels)
    record = Record.read(tmp_path / "out" / "p007_s01.lsnet.json")
    assert record.task == "predict"
    assert record.inputs["models"][0]["sha256"] == load(weights).card.sha256
    assert record.local["source"] == "../p007_s01.png"


def test_a_scan_comes_back_on_its_grid_whatever_its_orientation(tmp_path: Path) -> None:
    """One scene stored in two orders gives one result in the patient."""
    weights = stored(tmp_path / "w", 3, spacing=(2.0, 1.2, 1.3))
    straight = scan(tmp_path / "a.nii.gz", LPS)
    nib.save(nib.as_closest_canonical(nib.load(straight)), tmp_path / "b.nii.gz")
    stored_image = nib.load(straight)
    turned = stored_image.as_reoriented(np.array([[2, 1], [0, -1], [1, -1]]))
    nib.save(turned, tmp_path / "c.nii.gz")

    for name in "abc":
        arguments = ["predict", str(tmp_path / f"{name}.nii.gz"), "--weights", str(weights)]
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 0

    results = {name: nib.load(tmp_path / "out" / f"{name}.nii.gz") for name in "abc"}
    for name, result in results.items():
        np.testing.assert_allclose(result.affine, nib.load(tmp_path / f"{name}.nii.gz").affine, atol=1e-4)
    first = np.asarray(nib.as_closest_canonical(results["a"]).dataobj)
    assert len(np.unique(first)) > 1
    for name in "bc":
        np.testing.assert_array_equal(np.asarray(nib.as_closest_canonical(results[name]).dataobj), first)
    assert read_segmentation(tmp_path / "out" / "a.nii.gz").segments is not None


def test_a_folder_goes_on_after_a_file_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, images = stored(tmp_path / "w", 2), tmp_path / "images"
    images.mkdir()
    picture(images / "a.png")
    picture(images / "b.png", (20, 20, 3))
    (images / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    picture(images / "d.png")

    code = main(["predict", str(images), "--weights", str(weights), "--out", str(tmp_path / "out"), "--json"])

    told = [event for event in events(capsys.readouterr().out) if event["event"] == "image"]
    assert code == 1
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a.png", "d.png"]
    assert "failed" not in told[0]
    assert told[1]["failed"] == "image-channels"
    assert "colour image" in told[1]["message"]
    assert told[2]["failed"]


def test_what_is_there_stays_without_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 2), picture(tmp_path / "a.png")
    arguments = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns

    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before
    assert main([*arguments, "--overwrite"]) == 0


def test_an_input_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 2), picture(tmp_path / "images.png")
    content = image.read_bytes()

    code = main(["predict", str(image), "--weights", str(weights), "--out", str(tmp_path), "--overwrite"])

    assert code == 2
    assert "input" in capsys.readouterr().err
    assert image.read_bytes() == content


def test_maps_are_written_beside_the_labels_when_asked_for(tmp_path: Path) -> None:
    weights, image = stored(tmp_path / "w", 3), scan(tmp_path / "mr.nii.gz", LPS)

    arguments = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--outputs", "labels,prob,entropy"]) == 0

    volumes = {p.name: read_volume(p) for p in (tmp_path / "out").glob("*.nii.gz")}
    assert set(volumes) == {
        "mr.nii.gz", "mr_prob_background.nii.gz", "mr_prob_a.nii.gz", "mr_prob_b.nii.gz", "mr_entropy.nii.gz",
    }  # fmt: skip
    shares = np.stack([volumes[f"mr_prob_{name}.nii.gz"].array for name in ("background", "a", "b")])
    np.testing.assert_allclose(shares.sum(0), 1, atol=2e-3)
    certain = np.sort(shares, 0)[-1] - np.sort(shares, 0)[-2] > 0.01
    np.testing.assert_array_equal(3 * shares.argmax(0)[certain], volumes["mr.nii.gz"].array[certain])


def test_channels_of_one_image_lie_in_files_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, images = stored(tmp_path / "w", 3, channels=2), tmp_path / "images"
    images.mkdir()
    for case in ("x", "y"):
        for k in range(2):
            scan(images / f"{case}_{k:04d}.nii.gz", LPS, seed=k)

    assert main(["predict", str(images), "--weights", str(weights), "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["x.nii.gz", "y.nii.gz"]

    (images / "y_0001.nii.gz").unlink()
    assert main(["predict", str(images), "--weights", str(weights), "--out", str(tmp_path / "out2")]) == 2
    assert "2 channels" in capsys.readouterr().err


def test_a_series_is_predicted_frame_by_frame(tmp_path: Path) -> None:
    weights = stored(tmp_path / "w", 3)
    array = RNG.integers(0, 99, (16, 16, 8, 3)).astype(np.int16)
    image = nib.Nifti1Image(array, LPS)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "t.nii.gz")

    assert main(["predict", str(tmp_path / "t.nii.gz"), "--weights", str(weights), "--out", str(tmp_path / "o")]) == 0

    assert nib.load(tmp_path / "o" / "t.nii.gz").shape == array.shape


def test_the_flags_of_mirror_and_tile_take_numbers(tmp_path: Path) -> None:
    weights, image = stored(tmp_path / "w", 3), scan(tmp_path / "mr.nii.gz", LPS)
    arguments = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]

    assert main([*arguments, "--mirror", "0,2", "--tile", "24", "--post", "largest"]) == 0

    used = PredictionParameters(**Record.read(tmp_path / "out" / "mr.lsnet.json").parameters)
    assert used.mirror_axes == (0, 2)
    assert used.window == (24,)
    assert used.post == "largest"


def test_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 3), scan(tmp_path / "mr.nii.gz", LPS)

    arguments = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run", "--json"]) == 0

    assert events(capsys.readouterr().out)[0]["peak_memory_gb"] > 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--weights", "no-such-model"], "no-such-model"),
        (["--folds", "7"], "no fold 7"),
        (["--outputs", "labels,probability"], "knows no probability"),
        (["--step", "0"], "--step"),
        (["--tile", "large"], "--tile"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, image = stored(tmp_path / "w", 2), picture(tmp_path / "a.png")
    base = [] if "--weights" in words else ["--weights", str(weights)]

    code = main(["predict", str(image), "--out", str(tmp_path / "out"), *base, *words])

    said = capsys.readouterr().err
    assert code == 2
    assert match in said
    assert said.count("\n") == 1


def test_a_model_for_mr_on_a_ct_and_odd_voxels_are_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = stored(tmp_path / "w", 3, spacing=(9.0, 9.0, 9.0), modality="MR")
    image = scan(tmp_path / "a.nii.gz", LPS)

    assert main(["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]) == 0

    said = capsys.readouterr()
    assert "factor 3" in said.err
    assert "factor 3" not in said.out, "said once"


def test_what_may_go_badly_is_said_before_the_first_window(tmp_path: Path) -> None:
    """In a process of its own, whose two outputs are one stream: what comes first is what is read first."""
    weights, image = stored(tmp_path / "w", 3, spacing=(9.0, 9.0, 9.0)), scan(tmp_path / "a.nii.gz", LPS)
    words = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out"), "--outputs", "attention"]
    command = [sys.executable, "-m", "src_models.cli", *words]

    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)

    lines = done.stdout.splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("Done"))
    for warning in ("factor 3", "has no attention maps"):
        (where,) = (number for number, line in enumerate(lines) if warning in line)
        assert where < end, warning


def test_programs_hear_of_every_note_with_the_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of one that comes between two lines: here the picture and its windows are through in no time."""
    weights, folder = stored(tmp_path / "w", 3, spacing=(9.0, 9.0, 9.0)), tmp_path / "images"
    folder.mkdir()
    for name in "ab":
        scan(folder / f"{name}.nii.gz", LPS)

    assert main(["predict", str(folder), "--weights", str(weights), "--out", str(tmp_path / "out"), "--json"]) == 0

    told = events(capsys.readouterr().out)
    for name in "ab":
        ended = next(k for k, event in enumerate(told) if event.get("image") == f"{name}.nii.gz")
        first = told[0]
        assert first["phase"] == "prepare"
        assert any("factor 3" in note for note in first["notes"])
        assert any("factor 3" in note for note in told[ended]["notes"])
        del told[: ended + 1]


def test_a_model_in_mm_leaves_a_picture_without_size_as_it_is_until_its_size_is_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, image = stored(tmp_path / "w", 2, spacing=(2.0, 2.0)), picture(tmp_path / "a.png")
    array, model = np.asarray(Image.open(image)), load(weights)
    words = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out"), "--overwrite"]

    assert main(words) == 0
    said = capsys.readouterr().err
    plain = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert main([*words, "--spacing", "0.9,0.9"]) == 0
    sized = np.asarray(Image.open(tmp_path / "out" / "a.png"))

    assert "not resampled" in said
    assert "--spacing" in said
    # as one whose voxels have the size of the model
    np.testing.assert_array_equal(plain, finish(predict(model, array, (2.0, 2.0))).labels)
    np.testing.assert_array_equal(sized, finish(predict(model, array, (0.9, 0.9))).labels)
    assert (plain != sized).any()
    assert not capsys.readouterr().err
    assert main(["replay", str(tmp_path / "out" / "a.lsnet.json")]) == 0, "the record keeps the stated size"


@pytest.mark.parametrize(
    ("sizes", "match"), [("1,2,3", "2 axes"), ("1", "2 or 3 sizes"), ("a,b", "2 or 3 sizes"), ("0,1", "2 or 3 sizes")]
)
def test_a_stated_size_that_cannot_be_is_refused(
    sizes: str, match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, image = stored(tmp_path / "w", 2), picture(tmp_path / "a.png")

    words = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out"), "--spacing", sizes]
    assert main(words) == 2

    assert match in capsys.readouterr().err


def test_a_stated_size_never_replaces_that_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 3), scan(tmp_path / "a.nii.gz", LPS)
    words = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]

    assert main([*words, "--spacing", "9,9,9"]) == 2
    assert "2.5 x 1 x 1.5 mm" in capsys.readouterr().err
    assert main([*words, "--spacing", "2.5,1,1.5"]) == 0


def test_info_tells_how_a_prediction_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 3, version="2", fold="1"), scan(tmp_path / "a.nii.gz", LPS)
    words = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out"), "--step", "0.7"]
    assert main([*words, "--tile", "16"]) == 0
    path = tmp_path / "out" / "a.lsnet.json"
    capsys.readouterr()

    assert main(["info", str(path)]) == 0

    told = capsys.readouterr().out
    record, card = Record.read(path), load(weights).card
    assert f"net3d@2, fold 1, SHA-256 {card.sha256}" in told
    assert "--step 0.7 --window 16" in told
    assert "12 x 24 x 20 voxels of 2.5 x 1 x 1.5 mm" in told
    assert record.source is not None
    assert record.source.content_hash[:12] in told
    assert "cpu, float32" in told
    assert f"took      {record.duration_s:g} s" in told
    assert "rescue    none was needed" in told
    rescued = record.model_copy(update={"result": record.result | {"rescues": ["The window is halved."]}})
    write_record(path, rescued)
    assert main(["info", str(path)]) == 0
    assert "rescue    The window is halved." in capsys.readouterr().out


def test_a_zarr_array_gives_a_zarr_array(tmp_path: Path) -> None:
    weights = stored(tmp_path / "w", 3)
    source = zarr.create_array(str(tmp_path / "big.zarr"), shape=(30, 20, 20), chunks=(8, 20, 20), dtype="f4")
    source[:] = RNG.normal(size=source.shape)
    source.attrs["spacing"] = [2.0, 1.0, 1.0]

    arguments = ["predict", str(tmp_path / "big.zarr"), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0

    labels = zarr.open(str(tmp_path / "out" / "big.zarr"), mode="r")
    whole = finish(predict(load(weights), source[:], (2.0, 1.0, 1.0)))
    assert (labels[:] == whole.labels).mean() > 0.999
    assert Record.read(tmp_path / "out" / "big.lsnet.json").task == "predict"


def test_a_folder_on_two_workers(tmp_path: Path) -> None:
    """The same labels as one process gives, and a failure in one task is a sentence."""
    weights, images = stored(tmp_path / "w", 2), tmp_path / "images"
    images.mkdir()
    for name in "abc":
        picture(images / f"{name}.png")
    (images / "d.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")

    arguments = ["predict", str(images), "--weights", str(weights)]
    assert main([*arguments, "--out", str(tmp_path / "cluster"), "--cluster", "2"]) == 1
    assert main([*arguments, "--out", str(tmp_path / "alone")]) == 1

    for name in "abc":
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "cluster" / f"{name}.png")),
            np.asarray(Image.open(tmp_path / "alone" / f"{name}.png")),
        )


def test_replay_makes_the_same_labels_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, image = stored(tmp_path / "w", 3), scan(tmp_path / "mr.nii.gz", LPS)
    arguments = ["predict", str(image), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--step", "0.7", "--post", "largest"]) == 0
    record = tmp_path / "out" / "mr.lsnet.json"

    assert main(["replay", str(record), "--out", str(tmp_path / "again.nii.gz")]) == 0
    assert "bit for bit" in capsys.readouterr().out
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "again.nii.gz").labels, read_segmentation(tmp_path / "out" / "mr.nii.gz").labels
    )

    other = scan(tmp_path / "other.nii.gz", LPS, seed=8)
    assert main(["replay", str(record), "--source", str(other)]) == 2
    assert "not the one of the record" in capsys.readouterr().err
    content = json.loads(record.read_text())
    content["parameters"]["step"] = 0.4
    record.write_text(json.dumps(content))
    assert main(["replay", str(record)]) == 1


def test_replay_of_a_series(tmp_path: Path) -> None:
    weights = stored(tmp_path / "w", 3)
    image = nib.Nifti1Image(RNG.integers(0, 99, (16, 16, 8, 2)).astype(np.int16), LPS)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "t.nii.gz")
    assert main(["predict", str(tmp_path / "t.nii.gz"), "--weights", str(weights), "--out", str(tmp_path / "o")]) == 0

    assert main(["replay", str(tmp_path / "o" / "t.lsnet.json")]) == 0
