"""The command `lsnet`: flags from the model, the same mask as Python and replay, and refusals in one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from src_models.cli import main, options, report
from src_models.errors import InputError
from src_models.files import read_segmentation, read_volume
from src_models.geometry import StoredOrder, Volume
from src_models.levelset import LevelSetParameters, evolve
from src_models.levelset.initial import Seeds, Sphere
from src_models.progress import finish
from src_models.record import Record, content_hash, record_path

# The same box in three orders of storage: axes that grow to the Left, Posterior, Superior; to the Right, Anterior,
# Inferior; and with slices along the first axis of the file.
AFFINES = {
    "LPS": np.array([[-1.5, 0, 0, 9], [0, -1, 0, 5], [0, 0, 2.5, -40], [0, 0, 0, 1.0]]),
    "RAI": np.array([[1.5, 0, 0, -18], [0, 1, 0, -19], [0, 0, -2.5, -2.5], [0, 0, 0, 1.0]]),
    "SLP": np.array([[0, -1.5, 0, 9], [0, 0, -1, 5], [2.5, 0, 0, -40], [0, 0, 0, 1.0]]),
}
REGION = ["--speed", "region", "--lower", "60", "--upper", "200"]


def scene(path: Path, order: str = "LPS", noise: float = 4.0) -> Path:
    """A bright, off-centre ellipsoid in int16 grey values, 0.9 ml, with three different voxel sizes."""
    affine = AFFINES[order]
    shape = (16, 19, 25) if order == "SLP" else (19, 25, 16)
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = ijk @ affine[:3, :3].T + affine[:3, 3]
    inside = (((world - [-5.0, -8.0, -20.0]) / [6.0, 7.0, 8.0]) ** 2).sum(axis=-1) < 1
    grey = np.where(inside, 120.0, 10.0) + np.random.default_rng(3).normal(0, noise, shape)
    image = nib.Nifti1Image(np.rint(grey).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return path


def mask_like(path: Path, image: Path, fill: Callable[[np.ndarray], None], dtype: Any = np.uint8) -> Path:
    """A mask file on the grid of an image, in the image's own order."""
    source = nib.load(image)
    labels = np.zeros(source.shape[:3], dtype)
    fill(labels)
    saved = nib.Nifti1Image(labels, source.affine)
    saved.set_sform(source.affine, code=2)
    nib.save(saved, path)
    return path


def seeds_file(path: Path, image: Path, value: int = 1) -> Path:
    """A cube of seeds about the middle of the ellipsoid."""
    affine = nib.load(image).affine
    centre = np.rint(np.linalg.solve(affine, [-5.0, -8.0, -20.0, 1.0])[:3]).astype(int)

    def fill(labels: np.ndarray) -> None:
        labels[tuple(slice(c - 1, c + 2) for c in centre)] = value

    return mask_like(path, image, fill)


def point_text(image: Path, radius: float = 4.0) -> str:
    """The middle of the ellipsoid as `--point` takes it: mm along the stored axes, slowest first."""
    affine = nib.load(image).affine
    index = np.linalg.solve(affine, [-5.0, -8.0, -20.0, 1.0])[:3]
    mm = index * np.linalg.norm(affine[:3, :3], axis=0)
    return ",".join(f"{x:.3f}" for x in mm[::-1]) + f":{radius:g}"


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """The exit code and the sentence of a command line that is refused; nothing is on standard output."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lsnet: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return code, captured.err


def lsnet(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "src_models.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, **options)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return scene(tmp_path / "image.nii.gz")


@pytest.fixture
def seeds(tmp_path: Path, image: Path) -> Path:
    return seeds_file(tmp_path / "seeds.nii.gz", image)


# -- the parser


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """Measured in seconds of the processor, which do not grow when other programs run beside the test."""
    code = (
        "import sys, time\n"
        "from src_models.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "loaded = {'torch', 'scipy', 'SimpleITK', 'skimage', 'nibabel', 'matplotlib', 'napari'} & set(sys.modules)\n"
        "sys.stderr.write(f'{sorted(loaded)} {time.process_time()}')"
    )
    for words in ([], ["--help"], ["--version"], ["evolve", "--help"], ["demo", "--help"]):
        seconds = []
        for _ in range(3):
            done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
            loaded, took = done.stderr.rsplit(" ", 1)
            assert (words, loaded) == (words, "[]")
            seconds.append(float(took))
        assert min(seconds) < 0.5


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    top = capsys.readouterr().out
    for command in ("evolve", "info", "replay", "demo"):
        assert command in top
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"lsnet {command}" in capsys.readouterr().out


def test_every_parameter_is_a_flag_with_its_title_unit_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evolve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in LevelSetParameters.model_fields.items():
        flag = options.flag(name)
        shown = f"{flag}, --no-{flag.removeprefix('--')}" if isinstance(field.default, bool) else f"{flag} "
        part = text[text.index(shown) :]
        part = part[: part.index(field.description[-20:]) + 120]
        assert f"{field.title}. {field.description}" in part, name
        if field.default is not None and not isinstance(field.default, bool):
            assert f"Default: {field.default}." in part, name
        if field.json_schema_extra["unit"]:
            assert f"Unit: {field.json_schema_extra['unit']}." in part, name
    assert "{godunov,osher_sethian,central,none}" in text


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


def _choices(name: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(LevelSetParameters.model_fields[name].annotation))


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "speed": _choices("speed"),
            "gradient": _choices("gradient"),
            "order": st.just(1),
            "guard": _choices("guard"),
            "balloon": _numbers(-1e6, 1e6),
            "curvature": _numbers(0, 1e6),
            "convection": _numbers(0, 5) | st.none(),
            "lower": _numbers(-1e5, -1e-7),
            "upper": _numbers(0, 1e20),
            "sigma": _numbers(0, 3) | st.tuples(_numbers(0, 3), _numbers(0, 3), _numbers(0, 3)),
            "time_step": st.just("cfl") | _numbers(1e-9, 10),
            "value_range": st.tuples(_numbers(-1e4, 0), _numbers(1, 1e4)) | st.none(),
            "auto_stop": st.booleans(),
            "steps": st.integers(1, 10**9),
            "time": _numbers(1e-6, 1e6),
        },
    )
)
def test_the_flags_of_a_model_give_the_same_model(values: dict[str, Any]) -> None:
    import argparse

    model = LevelSetParameters(**values)
    parser = argparse.ArgumentParser()
    options.add_model(parser, LevelSetParameters)
    words = options.join_negative_values(options.command_line(model))
    assert options.build(LevelSetParameters, options.given(parser.parse_args(words), LevelSetParameters)) == model


@pytest.mark.parametrize("text", ["-5", "-1e3", "-.5", "-1.5e+3,2", "-100,-50", "-3,4,5:6"])
def test_negative_values_need_no_equals_sign(text: str) -> None:
    assert options.join_negative_values(["a", "--lower", text, "b"]) == ["a", f"--lower={text}", "b"]


def test_flags_are_not_taken_for_values() -> None:
    words = ["--no-auto-stop", "--steps", "3", "-h", "--", "-1"]
    assert options.join_negative_values(words) == words


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--curvature", "-1"], "--curvature cannot be -1: it must be 0 or more."),
        (["--curvature", "much"], "--curvature cannot be much: it must be a number"),
        (["--balloon", "nan"], "--balloon cannot be nan: it must be a finite number."),
        (["--steps", "2.5"], "--steps cannot be 2.5: it must be a whole number"),
        (["--lower", "5", "--upper", "4"], r"lower \(5\) must be below upper \(4\)"),
        (["--redistance-every", "0"], "order=2 needs redistancing"),
        (["--value-range", "1,2,3"], "--value-range cannot be 1,2,3: "),
        (["--sigma", "1,x"], "--sigma cannot be 1,x: it must be a number"),
        (["--time-step", "-1"], "time_step must be 'cfl' or a number above 0"),
    ],
)
def test_a_value_out_of_bounds_names_its_flag(
    words: list[str], sentence: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = image.with_name("out.nii.gz")
    code, line = fails(capsys, "evolve", image, "--point", "1,1,1:1", "--out", out, *words)
    assert code == InputError.exit_code
    assert re.search(sentence, line)
    assert len(line) < 200
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["evolve"],
        ["evolve", "a.nii", "--out", "b.nii"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--point", "1,1,1:1"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--speed", "fast"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--order", "3"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--curv", "1"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--label", "0"],
        ["evolve", "a.nii", "--out", "b.nii", "--seeds", "c.nii", "--label", "x"],
        ["grow", "a.nii"],
    ],
)
def test_a_command_line_that_cannot_be_read_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "error:" in said
    assert said.count("\n") == 1, "all flags are what --help is for"
    assert f"See lsnet {words[0]} --help." in said or "See lsnet --help." in said


def test_a_parameter_file_gives_way_to_flags_and_wins_over_the_preset(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = tmp_path / "flat.toml"
    flat.write_text(
        'balloon = 0.9\ncurvature = 0.7\nsigma = [2.0, 1.0, 1.0]\nauto_stop = false\ntime_step = "cfl"\n', "utf-8"
    )
    table = tmp_path / "table.toml"
    table.write_text(f"[LevelSetParameters]\n{flat.read_text('utf-8')}", "utf-8")
    for file in (flat, table):
        words = ["evolve", image, "--point", point_text(image), "--steps", "2", "--overwrite", "--out"]
        words += [tmp_path / "out.nii.gz", "--preset", "paper", "--parameters", file, "--balloon", "0.5"]
        assert main([str(word) for word in words]) == 0
        made = LevelSetParameters(**Record.read(tmp_path / "out.lsnet.json").parameters)
        assert (made.balloon, made.curvature, made.sigma, made.auto_stop) == (0.5, 0.7, (2.0, 1.0, 1.0), False)
        assert (made.gradient, made.order, made.redistance_every, made.time_step) == ("central", 1, 0, "cfl")
    assert str(tmp_path) not in (tmp_path / "out.lsnet.json").read_text("utf-8")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("curvatur = 1", "names 'curvatur', which is not a parameter"),
        ("curvature = -1", "curvature in own.toml cannot be -1: it must be 0 or more"),
        ("curvature == 1", "own.toml is not TOML"),
        (None, "own.toml cannot be read"),
    ],
)
def test_a_parameter_file_is_refused_by_its_line(
    text: str | None, sentence: str, tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.toml"
    if text is not None:
        file.write_text(text, "utf-8")
    _, line = fails(capsys, "evolve", image, "--point", "1,1,1:1", "--out", tmp_path / "o.nii", "--parameters", file)
    assert sentence in line


# -- evolve


@pytest.mark.parametrize("order", AFFINES)
def test_the_mask_lies_on_the_image_and_finds_the_body(
    order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = scene(tmp_path / "image.nii.gz", order)
    out = tmp_path / "mask.nii.gz"
    assert main(["evolve", str(image), "--point", point_text(image), "--out", str(out), *REGION]) == 0
    source, mask = nib.load(image), nib.load(out)
    labels = np.asarray(mask.dataobj)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_array_equal(mask.affine, source.affine)
    np.testing.assert_array_equal(mask.get_qform(), source.get_qform())
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (2, 1)
    body = np.asarray(source.dataobj) > 60
    assert 2 * (body & (labels == 1)).sum() / (body.sum() + labels.sum()) > 0.95
    said = capsys.readouterr().out
    record = Record.read(record_path(out))
    assert f"{record.result['volume_ml']:.2f} ml after {record.result['steps']} steps" in said
    assert "The front rests." in said
    assert f"Saved {out} with its record mask.lsnet.json." in said
    np.testing.assert_array_equal(record.source.index_to_patient, read_volume(image).grid.index_to_patient)
    assert record.result["volume_ml"] == pytest.approx(labels.sum() * 1.5 * 2.5 / 1000, rel=0.05)


def test_a_point_counts_in_the_order_of_the_file(tmp_path: Path) -> None:
    for order in AFFINES:
        image = scene(tmp_path / f"{order}.nii.gz", order)
        index = (3, 5, 7)
        stored_spacing = np.linalg.norm(nib.load(image).affine[:3, :3], axis=0)
        point = ",".join(f"{x:.4f}" for x in (np.array(index) * stored_spacing)[::-1])
        out = tmp_path / f"{order}_mask.nii.gz"
        words = [
            "evolve",
            str(image),
            "--point",
            f"{point}:0.1",
            "--out",
            str(out),
            "--balloon",
            "0",
            "--curvature",
            "0",
        ]
        assert main([*words, "--convection", "0", "--no-auto-stop", "--steps", "1"]) == 0
        assert np.argwhere(np.asarray(nib.load(out).dataobj)).tolist() == [list(index)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.sampled_from(sorted(AFFINES)),
    speed=st.sampled_from(["edge", "region"]),
    start=st.sampled_from(["seeds", "point"]),
    crop=st.sampled_from([None, "3:13,2:24,3:18", "1:,:22,:"]),
    curvature=st.floats(0, 1),
    steps=st.integers(1, 12),
)
def test_command_line_python_and_replay_give_the_same_bits(
    order: str, speed: str, start: str, crop: str | None, curvature: float, steps: int, tmp_path: Path
) -> None:
    image = scene(tmp_path / "image.nii.gz", order)
    seeds = seeds_file(tmp_path / "seeds.nii.gz", image)
    out = tmp_path / "mask.nii.gz"
    text = point_text(image)
    if crop is not None and order == "SLP":
        crop = ",".join(crop.split(",")[k] for k in (1, 2, 0))
    given_start = ["--seeds", str(seeds)] if start == "seeds" else ["--point", text]
    words = [
        "evolve",
        str(image),
        *given_start,
        "--out",
        str(out),
        "--overwrite",
        "--speed",
        speed,
        "--steps",
        str(steps),
    ]
    words += ["--curvature", repr(curvature)] + ([] if crop is None else ["--crop", crop])
    assert main(words) == 0

    volume = read_volume(image)
    box = _box(volume, crop)
    place = _presented(volume, [float(x) for x in text.partition(":")[0].split(",")])
    starts = [part.start * h for part, h in zip(box, volume.grid.spacing, strict=True)]
    initial: Any = read_segmentation(seeds).labels[box] != 0
    if start == "point":
        centre = tuple(round(x - first, 9) for x, first in zip(place, starts, strict=True))
        initial = Seeds(spheres=(Sphere(centre=centre, radius=4.0),))
    parameters = LevelSetParameters(speed=speed, steps=steps, curvature=curvature)
    result = finish(evolve(volume.array[box], initial, volume.grid.spacing, parameters))
    written = read_segmentation(out).labels
    np.testing.assert_array_equal(written[box] != 0, result.mask)
    outside = np.ones(written.shape, bool)
    outside[box] = False
    assert not written[outside].any()
    record = Record.read(record_path(out))
    assert record.result["mask_hash"] == content_hash(result.mask)

    again = tmp_path / "again.nii.gz"
    assert main(["replay", str(record_path(out)), "--out", str(again), "--overwrite"]) == 0
    assert again.read_bytes()[10:] == out.read_bytes()[10:] or np.array_equal(read_segmentation(again).labels, written)


def _presented(volume: Volume, point: list[float]) -> list[float]:
    """Written apart from the program: a place along the stored axes through the patient to the presented axes."""
    order, grid = volume.stored_order, volume.grid
    places = [point[order.axes[k]] for k in range(3)]
    return [
        (n - 1) * h - x if f else x for x, f, n, h in zip(places, order.flips, grid.shape, grid.spacing, strict=True)
    ]


def _box(volume: Volume, crop: str | None) -> tuple[slice, ...]:
    """The presented region, found by marking it in the stored order."""
    stored = volume.stored_order.store(volume.array)
    marked = np.zeros(stored.shape, bool)
    parts = [":"] * 3 if crop is None else crop.split(",")
    marked[tuple(slice(*[int(x) if x else None for x in part.split(":")]) for part in parts)] = True
    where = np.argwhere(volume.stored_order.present(marked))
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True))


def test_walls_pins_speed_image_and_distance(tmp_path: Path, image: Path, seeds: Path) -> None:
    def wall(labels: np.ndarray) -> None:
        labels[:, 14] = 1

    def pin(labels: np.ndarray) -> None:
        labels[2, 2, 2] = 1

    walls, pins = mask_like(tmp_path / "walls.nii.gz", image, wall), mask_like(tmp_path / "pins.nii.gz", image, pin)
    source = nib.load(image)
    speed = np.where(np.asarray(source.dataobj) > 60, 1.0, -1.0).astype(np.float32)
    nib.save(nib.Nifti1Image(speed, source.affine), tmp_path / "speed.nii.gz")
    out, distance = tmp_path / "mask.nii.gz", tmp_path / "distance.nii.gz"
    words = ["evolve", image, "--seeds", seeds, "--out", out, "--speed", "region", "--walls", walls, "--pins", pins]
    words += ["--speed-image", tmp_path / "speed.nii.gz", "--distance", distance, "--crop", ":,:,1:18"]
    assert main([str(word) for word in words]) == 0
    mask, level_set = np.asarray(nib.load(out).dataobj), np.asarray(nib.load(distance).dataobj)
    assert level_set.dtype == np.float32
    np.testing.assert_array_equal(level_set > 0, mask == 1)
    np.testing.assert_array_equal(nib.load(distance).affine, source.affine)
    assert not mask[:, 14].any()
    assert mask[2, 2, 2] == 1
    record = Record.read(record_path(out))
    assert record.local["walls"] == "walls.nii.gz"
    assert main(["replay", str(record_path(out))]) == 0


def test_one_label_of_many_starts_and_is_written(tmp_path: Path, image: Path) -> None:
    seeds = seeds_file(tmp_path / "labels.nii.gz", image, value=7)
    labels = np.asarray(nib.load(seeds).dataobj).copy()
    labels[0, 0, 0] = 3
    nib.save(nib.Nifti1Image(labels, nib.load(image).affine), seeds)
    out = tmp_path / "mask.nii.gz"
    assert main(["evolve", str(image), "--seeds", str(seeds), "--label", "7", "--out", str(out), *REGION]) == 0
    written = np.asarray(nib.load(out).dataobj)
    assert set(np.unique(written)) == {0, 7}
    assert written[0, 0, 0] == 0


def test_a_time_point_and_a_picture_with_channels(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = nib.load(image)
    series = np.stack([np.zeros(source.shape, np.int16), np.asarray(source.dataobj)], axis=-1)
    nib.save(nib.Nifti1Image(series, source.affine), tmp_path / "series.nii.gz")
    words = [
        "evolve",
        tmp_path / "series.nii.gz",
        "--point",
        point_text(image),
        "--out",
        tmp_path / "m.nii.gz",
        *REGION,
    ]
    code, line = fails(capsys, *words)
    assert (code, "has 2 time points" in line, "--time-point N" in line) == (2, True, True)
    code, line = fails(capsys, *words, "--time-point", "2")
    assert "has no frame 2: there are 2, counted from 0" in line
    assert main([*map(str, words), "--time-point", "1"]) == 0
    single = tmp_path / "single.nii.gz"
    assert main(["evolve", str(image), "--point", point_text(image), "--out", str(single), *REGION]) == 0
    np.testing.assert_array_equal(
        np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj).reshape(source.shape), np.asarray(nib.load(single).dataobj)
    )
    assert Record.read(tmp_path / "m.lsnet.json").source.region[0] == 1
    assert main(["replay", str(tmp_path / "m.lsnet.json")]) == 0
    capsys.readouterr()

    colours = np.zeros((40, 50, 3), np.uint8)
    colours[10:30, 20:40, 1] = 120
    Image.fromarray(colours).save(tmp_path / "picture.png")
    words = ["evolve", tmp_path / "picture.png", "--point", "20,30:4", "--out", tmp_path / "mask.png", *REGION]
    code, line = fails(capsys, *words)
    assert "has 3 channels. Choose one with --channel N." in line
    assert main([*map(str, words), "--channel", "1", "--curvature", "0"]) == 0
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (40, 50)
    assert (mask[10:30, 20:40] == 1).mean() > 0.98
    said = capsys.readouterr().out
    assert re.search(r"\d+ pixels after", said)


def test_json_lines_for_programs(image: Path, seeds: Path) -> None:
    out = image.with_name("out.nii.gz")
    done = lsnet("evolve", image, "--seeds", seeds, "--out", out, "--json", *REGION)
    assert done.returncode == 0
    assert done.stderr == ""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert [event["step"] for event in events[:-1]] == sorted(event["step"] for event in events[:-1])
    final, record = events[-1], Record.read(record_path(out))
    assert final["event"] == "result"
    assert final["stop_reason"] == record.result["stop_reason"] == events[-2]["stop_reason"] == "converged"
    assert final["steps"] == record.result["steps"]
    assert final["volume_ml"] == record.result["volume_ml"]
    assert final["voxels"] == int((read_segmentation(out).labels != 0).sum())
    assert Path(final["out"]) == out
    assert Path(final["record"]) == record_path(out)
    failed = lsnet("evolve", image, "--seeds", seeds, "--out", out, "--json", *REGION)
    event = json.loads(failed.stdout)
    assert (event["event"], event["code"], event["exit_code"]) == ("error", "target-exists", failed.returncode)
    assert failed.stderr == f"lsnet: {event['message']}\n"


def test_json_lines_hold_no_numbers_that_json_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    report.write_json({"rate": float("nan"), "values": [1.5, float("inf")], "size": 2})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "rate": None,
        "values": [1.5, None],
        "size": 2,
    }


def test_a_record_names_nobody_outside_its_local_block(tmp_path: Path) -> None:
    folder = tmp_path / "Doe_Jane_1961"
    folder.mkdir()
    image = scene(folder / "Doe_Jane_ct.nii.gz")
    seeds = seeds_file(folder / "Doe_Jane_seeds.nii.gz", image)
    out = tmp_path / "mask.nii.gz"
    assert main(["evolve", str(image), "--seeds", str(seeds), "--out", str(out), "--steps", "1"]) == 0
    record = Record.read(record_path(out))
    assert record.local["source"] == "Doe_Jane_1961/Doe_Jane_ct.nii.gz"
    assert "Doe" not in record.to_json(with_local=False)
    assert b"Doe" not in out.read_bytes()


# -- targets


@pytest.mark.parametrize("victim", ["image", "seeds", "record"])
@pytest.mark.parametrize("way", ["name", "symlink", "hardlink"])
def test_an_input_is_never_overwritten(
    victim: str, way: str, image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"image": image, "seeds": seeds, "record": image}[victim]
    out = target
    if way == "symlink":
        out = image.with_name("link.nii.gz")
        out.symlink_to(target)
    elif way == "hardlink":
        out = image.with_name("hard.nii.gz")
        os.link(target, out)
    before = image.read_bytes(), seeds.read_bytes()
    flag = ["--out", image.with_name("free.nii.gz"), "--distance", out] if victim == "record" else ["--out", out]
    code, line = fails(capsys, "evolve", image, "--seeds", seeds, *flag, "--overwrite", "--steps", "1")
    assert code == 2
    assert f"Not saved: {out.name} is an input of this run" in line
    assert (image.read_bytes(), seeds.read_bytes()) == before


def test_older_results_stay_unless_asked(image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = image.with_name("out.nii.gz")
    words = ["evolve", image, "--seeds", seeds, "--out", out, "--steps", "1"]
    for old in (out, record_path(out)):
        old.write_text("old")
        code, line = fails(capsys, *words)
        assert code == 2
        assert f"{old.name} exists already. Choose another name, or add --overwrite." in line
        assert old.read_text() == "old"
        old.unlink()
    out.write_text("old")
    assert main([*map(str, words), "--overwrite"]) == 0
    assert read_segmentation(out).labels.any()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing/out.nii.gz", "The folder for out.nii.gz does not exist"),
        (".", "is a folder|exists already"),
        ("out.xyz", "files ending in '.xyz' are not written"),
        ("out.png", "out.png was not saved"),
        ("out", "its name has no ending"),
    ],
)
def test_a_target_that_cannot_be_is_refused_before_the_work(
    name: str, sentence: str, image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = set(image.parent.iterdir())
    began = time.perf_counter()
    code, line = fails(capsys, "evolve", image, "--seeds", seeds, "--out", image.parent / name, "--overwrite")
    assert time.perf_counter() - began < 1.0
    assert code == 2
    assert re.search(sentence, line)
    assert set(image.parent.iterdir()) == there


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize(("name", "unsaved"), [("out.nii", "out.nii"), ("out.nii.gz", "The record out.lsnet.json")])
def test_a_full_disk_leaves_nothing_behind(name: str, unsaved: str, image: Path) -> None:
    """No file may grow beyond 1500 bytes: too few for a plain mask; for a packed one enough, but not for its record."""
    there = set(image.parent.iterdir())
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\n"
        "from src_models.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["evolve", image, "--point", point_text(image), "--out", image.with_name(name), "--steps", "1"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"lsnet: {re.escape(unsaved)} was not saved: .*\n", done.stderr)
    assert set(image.parent.iterdir()) == there


# -- bad input


def _nan(path: Path, image: Path) -> None:
    grey = np.asarray(nib.load(image).dataobj).astype(np.float32)
    grey[1, 1, 1], grey[2, 2, 2] = np.nan, np.inf
    nib.save(nib.Nifti1Image(grey, nib.load(image).affine), path)


def _complex(path: Path, image: Path) -> None:
    nib.save(nib.Nifti1Image(np.asarray(nib.load(image).dataobj).astype(np.complex64), nib.load(image).affine), path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path, image: None, "bad.nii.gz"),
        (lambda path, image: path.write_bytes(b""), "bad.nii.gz"),
        (lambda path, image: path.write_bytes(image.read_bytes()[:-3000]), "bad.nii.gz"),
        (lambda path, image: path.write_bytes(b"not an image at all" * 100), "bad.nii.gz"),
        (lambda path, image: path.mkdir(), "bad.nii.gz"),
        (_nan, "2 of 7600 voxels are NaN or infinite"),
        (_complex, "complex"),
    ],
    ids=["missing", "empty", "truncated", "lying", "folder", "nan", "complex"],
)
def test_a_bad_image_is_refused_in_one_sentence(
    make: Callable[[Path, Path], None],
    sentence: str,
    image: Path,
    seeds: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad, out = image.with_name("bad.nii.gz"), image.with_name("out.nii.gz")
    make(bad, image)
    found, line = fails(capsys, "evolve", bad, "--seeds", seeds, "--out", out)
    assert found == 2
    assert sentence in line
    assert str(bad.parent) not in line
    assert not out.exists()


def test_constant_bool_and_thin_images_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(np.full((8, 9, 10), 7, np.int16), np.eye(4)), tmp_path / "constant.nii.gz")
    thin = np.zeros((20, 1, 30), np.uint8)
    thin[5:15, 0, 8:20] = 1
    nib.save(nib.Nifti1Image(thin, np.diag([1, 4, 1, 1.0])), tmp_path / "thin.nii.gz")
    words = ["--steps", "300", "--speed", "region"]
    for name, point in (("constant", "4,4,4:2"), ("thin", "13,0,10:3")):
        out = tmp_path / f"{name}_mask.nii.gz"
        limits = ["--lower", "0.5", "--upper", "1.5"] if name == "thin" else []
        image = tmp_path / f"{name}.nii.gz"
        assert main(["evolve", str(image), "--point", point, "--out", str(out), *words, *limits]) == 0
        assert nib.load(out).shape == nib.load(image).shape
    assert "The image is constant" in capsys.readouterr().out
    mask = np.asarray(nib.load(tmp_path / "thin_mask.nii.gz").dataobj)
    assert 2 * (mask & thin).sum() / (int(mask.sum()) + int(thin.sum())) > 0.95


def test_seeds_of_another_grid_are_refused(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = nib.load(image)
    out = tmp_path / "out.nii.gz"
    smaller = tmp_path / "smaller.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), source.affine), smaller)
    moved_affine = source.affine.copy()
    moved_affine[0, 3] += 1.5
    moved = tmp_path / "moved.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(source.shape, np.uint8), moved_affine), moved)
    for path, why in ((smaller, "6 x 5 x 4 voxels against 16 x 25 x 19"), (moved, "another place or voxel size")):
        for flag, what in (("--seeds", "seeds"), ("--walls", "walls"), ("--speed-image", "speed image")):
            start = [] if flag == "--seeds" else ["--point", point_text(image)]
            code, line = fails(capsys, "evolve", image, *start, flag, path, "--out", out)
            assert code == 2
            assert f"The {what} in {path.name} and the image lie on different grids" in line
            assert why in line
    assert not out.exists()


def test_seeds_in_another_orientation_of_the_same_grid_are_taken(tmp_path: Path) -> None:
    masks = []
    image = scene(tmp_path / "image.nii.gz", "LPS", noise=0)
    for order in AFFINES:
        other = scene(tmp_path / "other.nii.gz", order, noise=0)
        seeds = seeds_file(tmp_path / f"seeds_{order}.nii.gz", other)
        out = tmp_path / f"mask_{order}.nii.gz"
        assert main(["evolve", str(image), "--seeds", str(seeds), "--out", str(out), "--steps", "5", *REGION]) == 0
        masks.append(np.asarray(nib.load(out).dataobj))
    assert masks[0].any()
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seeds", "empty.nii.gz"], "The seeds in empty.nii.gz are empty: no voxel is marked"),
        (["--seeds", "seeds.nii.gz", "--label", "5"], r"no voxel has label 5; there are \[0, 1\]"),
        (["--seeds", "seeds.nii.gz", "--crop", "0:2,:,:"], "lie outside the region"),
        (["--point", "1,2:3"], "--point 1,2:3 cannot be read"),
        (["--point", "1,2,3"], "--point 1,2,3 cannot be read"),
        (["--point", "1,2,x:3"], "cannot be read"),
        (["--point", "1,2,3:0"], "a radius above 0"),
        (["--point", "nan,2,3:1"], "cannot be read"),
        (["--point", "1,2,99:3"], "coordinate 3 runs from 0 to 27 mm"),
        (["--point", "-2,2,9:3"], "coordinate 1 runs from 0 to 37.5 mm"),
        (["--point", "20,2,3:3", "--crop", "0:4,:,:"], "outside the region of --crop"),
        (["--point", "1,2,3:1", "--crop", "0:4,:"], "--crop 0:4,: cannot be read: it needs 3 ranges"),
        (["--point", "1,2,3:1", "--crop", "4:4,:,:"], "range 1 must lie within 0:16"),
        (["--point", "1,2,3:1", "--crop", ":,0:99,:"], "range 2 must lie within 0:25"),
        (["--point", "1,2,3:1", "--time-point", "0"], "holds a single image. Leave out --time-point."),
        (["--point", "1,2,3:1", "--device", "mps"], "There is no mps device here"),
        (["--point", "1,2,3:1", "--sigma", "1,2"], "sigma has 2 values but the image 3 axes"),
    ],
)
def test_a_start_that_cannot_be_is_refused(
    words: list[str], sentence: str, image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask_like(image.with_name("empty.nii.gz"), image, lambda labels: None)
    words = [str(image.with_name(word)) if word.endswith(".nii.gz") else word for word in words]
    code, line = fails(capsys, "evolve", image, "--out", image.with_name("out.nii.gz"), *words)
    assert code == 2
    assert re.search(sentence, line)


def test_an_error_that_nobody_foresaw_is_one_sentence_too(
    image: Path, seeds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("inner detail about Doe_Jane")

    monkeypatch.setattr("src_models.files.read_volume", broken)
    words = ["evolve", image, "--seeds", seeds, "--out", image.with_name("out.nii.gz")]
    code, line = fails(capsys, *words)
    assert code == 70
    assert line == "lsnet: lsnet evolve stopped: ZeroDivisionError. Run it again with --debug to see where.\n"
    with pytest.raises(ZeroDivisionError):
        main([*map(str, words), "--debug"])


# -- Ctrl-C and closed pipes


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("keep", [False, True])
def test_ctrl_c_saves_nothing_or_what_is_whole(keep: bool, image: Path, seeds: Path) -> None:
    out = image.with_name("out.nii.gz")
    there = set(image.parent.iterdir())
    words = ["evolve", image, "--seeds", seeds, "--out", out, "--no-auto-stop", "--steps", "1000000", "--json"]
    words += ["--keep-partial"] if keep else []
    command = [sys.executable, "-m", "src_models.cli", *map(str, words)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs behind it deaf to Ctrl-C

    with subprocess.Popen(command, preexec_fn=listen, **pipes) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert json.loads(lines[-1])["step"] > 0
    last = json.loads(rest.splitlines()[-1])
    if not keep:
        assert process.returncode == 130
        assert errors == "lsnet: Stopped; nothing was saved.\n"
        assert last["code"] == "interrupted"
        assert set(image.parent.iterdir()) == there
        return
    assert process.returncode == 130
    assert last["stop_reason"] == "cancelled"
    record = Record.read(record_path(out))
    assert (record.status, record.result["steps"]) == ("cancelled", last["steps"])
    assert int((read_segmentation(out).labels != 0).sum()) == last["voxels"] > 0


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close differently there")
def test_a_reader_that_goes_away_is_no_error(image: Path) -> None:
    command = [sys.executable, "-m", "src_models.cli", "info", str(image)]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


# -- info


def test_info_tells_size_place_and_order(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(image), "--values"]) == 0
    text = capsys.readouterr().out
    assert "image.nii.gz: NIfTI-1, image, int16" in text
    assert "voxels    16 x 25 x 19, slowest axis first" in text
    assert "spacing   2.5 x 1 x 1.5 mm, in the same order" in text
    assert "axes      LPS: " in text
    low, high = np.asarray(nib.load(image).dataobj).min(), np.asarray(nib.load(image).dataobj).max()
    assert f"values    {low} to {high}" in text
    assert main(["info", str(image), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["shape"], facts["spacing"], facts["orientation"]) == ([16, 25, 19], [2.5, 1.0, 1.5], "LPS")
    assert facts["value_range"] is None


def test_info_tells_how_a_result_was_made(image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = image.with_name("out.nii.gz")
    assert main(["evolve", str(image), "--seeds", str(seeds), "--out", str(out), *REGION, "--steps", "4"]) == 0
    capsys.readouterr()
    assert main(["info", str(record_path(out))]) == 0
    text = capsys.readouterr().out
    assert "Record of a run of 'evolve', complete" in text
    assert "--speed region --lower 60.0 --upper 200.0" in text
    assert "--steps 4" in text
    assert "Research use only" in text
    assert main(["info", str(record_path(out)), "--json"]) == 0
    assert Record.model_validate(json.loads(capsys.readouterr().out)) == Record.read(record_path(out))


@pytest.mark.parametrize("name", ["none.nii.gz", "none.lsnet.json", "text.txt", "other.json"])
def test_info_refuses_in_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "other.json").write_text("{}")
    code, line = fails(capsys, "info", tmp_path / name)
    assert code == 2
    assert name in line


# -- replay


@pytest.fixture
def made(image: Path, seeds: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The record of a finished run."""
    out = image.with_name("out.nii.gz")
    assert main(["evolve", str(image), "--seeds", str(seeds), "--out", str(out), *REGION]) == 0
    capsys.readouterr()
    return record_path(out)


def test_replay_finds_the_image_after_the_folder_moved(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.parent.rename(made.parent.with_name("moved"))
    assert main(["replay", str(folder / made.name)]) == 0
    assert "The mask is the same, bit for bit: " in capsys.readouterr().out
    image = (folder / "image.nii.gz").rename(folder / "renamed.nii.gz")
    code, line = fails(capsys, "replay", folder / made.name)
    assert (code, "it is not where it was. Give it with --source FILE." in line) == (2, True)
    assert main(["replay", str(folder / made.name), "--source", str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["identical"] is True


def test_replay_refuses_another_image(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = scene(tmp_path / "other.nii.gz", noise=5)
    code, line = fails(capsys, "replay", made, "--source", other)
    assert (code, "The image is not the one of the record" in line) == (2, True)
    code, line = fails(capsys, "replay", made, "--source", scene(tmp_path / "slp.nii.gz", "SLP"))
    assert code == 2


def test_replay_says_by_what_the_mask_differs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(made.read_text("utf-8"))
    content["parameters"]["curvature"] = 3.0
    made.write_text(json.dumps(content), "utf-8")
    before = read_segmentation(made.parent / "out.nii.gz").labels != 0
    again = made.with_name("again.nii.gz")
    assert main(["replay", str(made), "--out", str(again)]) == 1
    now = read_segmentation(again).labels != 0
    text = capsys.readouterr().out
    differing = int((now != before).sum())
    dice = 2 * (now & before).sum() / (now.sum() + before.sum())
    assert differing > 0
    assert f"The mask differs in {differing} of {now.size} voxels (Dice {dice:.6f})." in text
    assert main(["replay", str(made), "--json"]) == 1
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (event["identical"], event["differing_voxels"]) == (False, differing)
    (made.parent / "out.nii.gz").unlink()
    assert main(["replay", str(made)]) == 1
    assert re.search(r"The mask differs: now [\d.]+ ml after \d+ steps, then \d+ steps", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inputs": {}}, "lacks something that a replay needs"),
        ({"result": {}}, "lacks something that a replay needs"),
        ({"parameters": {"curvature": -1}}, "lacks something that a replay needs"),
        ({"local": {}}, "the record does not say where it is. Give it with --source FILE."),
        ({"task": "fit"}, "This record is not of a level set run"),
        ({"source": None}, "This record is not of a level set run"),
    ],
)
def test_replay_refuses_a_record_that_is_not_whole(
    change: dict[str, Any], sentence: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_text(json.dumps(json.loads(made.read_text("utf-8")) | change), "utf-8")
    _, line = fails(capsys, "replay", made)
    assert sentence in line


def test_replay_refuses_a_region_that_the_image_has_not(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for region in ([[0, 99], [0, 2], [0, 2]], [[0, 2]], [[3, 3], [0, 2], [0, 2]], [99, [0, 2], [0, 2]]):
        content = json.loads(made.read_text("utf-8"))
        content["source"]["region"] = region
        made.write_text(json.dumps(content), "utf-8")
        code, line = fails(capsys, "replay", made)
        assert (code, "has no such region as the record speaks of" in line) == (2, True)


def test_replay_never_writes_over_its_inputs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = made.read_bytes()
    for name in ("image.nii.gz", "out.nii.gz"):
        code, _ = fails(capsys, "replay", made, "--out", made.parent / name, "--overwrite")
        assert code == 2
    assert made.read_bytes() == before


def test_a_slice_of_a_volume_is_replayed_from_its_record(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the viewer records a run on one slice: a number in the region, a picture as the array."""
    from src_models.record import write_record

    volume = read_volume(image)
    assert isinstance(volume.stored_order, StoredOrder)
    where = np.argwhere(volume.array > 60).mean(axis=0)
    picture, spacing = volume.array[round(where[0])], volume.grid.spacing[1:]
    centre = (float(where[1]) * spacing[0], float(where[2]) * spacing[1])
    seeds = Seeds(spheres=(Sphere(centre=centre, radius=3.0),))
    parameters = LevelSetParameters(speed="region", lower=60, upper=200)
    result = finish(evolve(picture, seeds, spacing, parameters))
    region = [round(where[0]), *[(0, n) for n in picture.shape]]
    source = result.record.source.model_copy(update={"region": region})
    record = result.record.model_copy(update={"source": source, "local": {"source": image.name}})
    write_record(tmp_path / "slice.lsnet.json", record)
    out = tmp_path / "slice.nii.gz"
    assert main(["replay", str(tmp_path / "slice.lsnet.json"), "--out", str(tmp_path / "again.nii.gz")]) == 0
    labels = read_segmentation(tmp_path / "again.nii.gz").labels
    np.testing.assert_array_equal(labels[region[0]] != 0, result.mask)
    assert labels.sum() == result.mask.sum() > 0
    assert not out.exists()
    capsys.readouterr()
