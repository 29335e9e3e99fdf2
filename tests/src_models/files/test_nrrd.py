"""NRRD: axes and spaces, units, detached data, and headers that lie."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from src_models.errors import FileError, LsnetError
from src_models.files import describe, read_segmentation, read_volume, write_segmentation, write_volume
from src_models.geometry import Grid, Segmentation, Volume

VALUES = np.arange(24, dtype=np.uint8)
FIELDS = {
    "type": "uint8",
    "dimension": "3",
    "space": "right-anterior-superior",
    "sizes": "4 3 2",
    "space directions": "(0.75,0,0) (0,0.9,0) (0,0,3)",
    "encoding": "raw",
    "space origin": "(1,2,3)",
}


def make(path: Path, data: bytes = VALUES.tobytes(), **changes: str | None) -> Path:
    """A NRRD by hand; a change to None leaves the field out, "_" in a name is a blank."""
    fields = FIELDS | {name.replace("_", " "): text for name, text in changes.items()}
    lines = [f"{name}: {text}" for name, text in fields.items() if text is not None]
    path.write_bytes("\n".join(["NRRD0004", "# a comment", *lines, "", ""]).encode() + data)
    return path


def mask_on(volume: Volume) -> Segmentation:
    return Segmentation(volume.array > 5, volume.grid, stored_order=volume.stored_order, header=volume.header)


def test_space_directions_and_origin_place_the_volume(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.nrrd"))
    assert volume.grid.letters == ("I", "P", "L")
    first = np.array(volume.stored_order.present_index((0, 0, 0), volume.grid.shape))
    np.testing.assert_allclose(volume.grid.to_patient(first), (-1, -2, 3))
    np.testing.assert_array_equal(volume.stored_order.store(volume.array).ravel(), VALUES)


def test_a_mask_keeps_the_space_of_its_source(tmp_path: Path) -> None:
    source = read_volume(make(tmp_path / "a.nrrd", space_units='"mm" "mm" "mm"'))
    write_segmentation(tmp_path / "m.nrrd", mask_on(source))
    text = (tmp_path / "m.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert "space: right-anterior-superior" in text
    assert "space directions: (0.75,0.0,0.0) (0.0,0.9,0.0) (0.0,0.0,3.0)" in text
    assert "space origin: (1.0,2.0,3.0)" in text
    assert describe(tmp_path / "m.nrrd").labels


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("um", 1e-3), ("µm", 1e-3), ("cm", 10.0)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    quoted = " ".join([f'"{unit}"'] * 3)
    volume = read_volume(make(tmp_path / "a.nrrd", space_units=quoted))
    assert volume.grid.spacing == pytest.approx((3 * factor, 0.9 * factor, 0.75 * factor))
    write_segmentation(tmp_path / "m.nrrd", mask_on(volume))
    np.testing.assert_allclose(
        read_segmentation(tmp_path / "m.nrrd").grid.index_to_patient, volume.grid.index_to_patient, rtol=1e-12
    )
    plain = {"space": None, "space_directions": None, "space_origin": None, "spacings": "0.75 0.9 3", "units": quoted}
    assert read_volume(make(tmp_path / "b.nrrd", **plain)).grid.spacing == pytest.approx(volume.grid.spacing)


def test_an_unknown_unit_is_taken_as_mm_and_said(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.nrrd", space_units='"furlong" "furlong" "furlong"'))
    assert volume.grid.spacing == pytest.approx((3.0, 0.9, 0.75))
    assert "millimetres are assumed" in volume.notes[0]


@pytest.mark.parametrize("space", [None, "scanner-xyz", "3D-right-handed"])
def test_without_a_patient_space_no_side_is_named(tmp_path: Path, space: str | None) -> None:
    volume = read_volume(make(tmp_path / "a.nrrd", space=space, space_dimension="3" if space is None else None))
    assert not volume.grid.orientation_known
    np.testing.assert_array_equal(volume.array.ravel(), VALUES)
    write_segmentation(tmp_path / "m.nrrd", mask_on(volume))
    assert describe(tmp_path / "m.nrrd").orientation == ""
    assert b"(0.0,0.0,3.0)" in (tmp_path / "m.nrrd").read_bytes(), "the directions of the source are kept"


def test_without_any_size_lengths_are_in_pixels(tmp_path: Path) -> None:
    volume = read_volume(make(tmp_path / "a.nrrd", space=None, space_directions=None, space_origin=None))
    assert not volume.grid.spacing_known
    with pytest.raises(LsnetError, match="Declare the voxel size"):
        write_volume(tmp_path / "b.nrrd", volume)


def test_first_axis_of_colours_last_axis_of_time(tmp_path: Path) -> None:
    directions = "(0.75,0,0) (0,0.9,0) (0,0,3)"
    data = np.arange(72, dtype=np.uint8)
    colour = make(
        tmp_path / "c.nrrd", data.tobytes(), dimension="4", sizes="3 4 3 2", space_directions=f"none {directions}",
        kinds="RGB-color domain domain domain",
    )  # fmt: skip
    volume = read_volume(colour)
    assert (volume.leading_axis, volume.array.shape) == ("c", (3, 2, 3, 4))
    np.testing.assert_array_equal(volume.stored_order.store(volume.array)[1].ravel(), data[1::3])
    time = make(
        tmp_path / "t.nrrd", data.tobytes(), dimension="4", sizes="4 3 2 3", space_directions=f"{directions} none",
        kinds="domain domain domain list",
    )  # fmt: skip
    volume = read_volume(time)
    assert (volume.leading_axis, volume.array.shape) == ("t", (3, 2, 3, 4))
    np.testing.assert_array_equal(volume.stored_order.store(volume.array)[1].ravel(), data[24:48])


def test_a_fourth_axis_without_a_meaning_is_time_and_said(tmp_path: Path) -> None:
    plain = {"space": None, "space_directions": None, "space_origin": None, "spacings": "1 1 2 1"}
    path = make(tmp_path / "a.nrrd", bytes(72), dimension="4", sizes="4 3 2 3", **plain)
    volume = read_volume(path)
    assert volume.leading_axis == "t"
    assert "taken as time" in volume.notes[0]


def test_byte_orders(tmp_path: Path) -> None:
    for endian, code in (("little", "<i2"), ("big", ">i2")):
        values = np.arange(-12, 12, dtype=code)
        volume = read_volume(make(tmp_path / "a.nrrd", values.tobytes(), type="short", endian=endian))
        np.testing.assert_array_equal(volume.stored_order.store(volume.array).ravel(), values)
        assert volume.array.dtype.isnative
    with pytest.raises(FileError, match="order of bytes"):
        read_volume(make(tmp_path / "a.nrrd", bytes(48), type="short"))


def test_free_text_and_pairs_do_not_reach_the_mask(tmp_path: Path) -> None:
    path = make(tmp_path / "a.nrrd", content="DOE^JANE é 山", **{"patient:=DOE^JANE\nx": "1"})
    volume = read_volume(path)
    assert not describe(path).labels
    write_segmentation(tmp_path / "m.nrrd", mask_on(volume))
    assert "DOE" not in repr((volume, describe(path)))
    assert b"DOE" not in (tmp_path / "m.nrrd").read_bytes()


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_detached_data_in_the_same_folder(tmp_path: Path, encoding: str) -> None:
    data = VALUES.tobytes() if encoding == "raw" else gzip.compress(VALUES.tobytes())
    (tmp_path / "a b.raw").write_bytes(data)
    volume = read_volume(make(tmp_path / "a.nhdr", b"", encoding=encoding, data_file="a b.raw"))
    assert volume.array.max() == 23


@pytest.mark.parametrize(("skip", "before"), [("0", 0), ("7", 7), ("-1", 9)])
def test_bytes_before_detached_data(tmp_path: Path, skip: str, before: int) -> None:
    (tmp_path / "a.raw").write_bytes(b"\xff" * before + VALUES.tobytes())
    volume = read_volume(make(tmp_path / "a.nhdr", b"", data_file="a.raw", byte_skip=skip))
    np.testing.assert_array_equal(volume.stored_order.store(volume.array).ravel(), VALUES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "plain name"),
        ("../a.raw", "plain name"),
        ("sub/a.raw", "plain name"),
        ("..\\a.raw", "plain name"),
        ("C:a.raw", "plain name"),
        ("LIST", "is missing"),
        ("slice%03d.raw 1 9 1", "plain name"),
        ("..", "plain name"),
        ("gone.raw", "is missing"),
        ("link.raw", "another folder"),
        ("empty.raw", "is empty"),
    ],
)
def test_data_outside_the_folder_is_not_read(tmp_path: Path, name: str, words: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "a.raw").write_bytes(VALUES.tobytes())
    (folder / "empty.raw").touch()
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    with pytest.raises(FileError, match=words) as caught:
        read_volume(make(folder / "a.nhdr", b"", data_file=name))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": "4 3"}, "contradict"),
        ({"sizes": "4 3 -2"}, "a size of -2"),
        ({"sizes": "4 3 0"}, "a size of 0"),
        ({"sizes": "4 3 two"}, "holds '4 3 two'"),
        ({"sizes": "4 3 99999999999999999999"}, "more than the limit"),
        ({"sizes": "4 3 " + "9" * 5000}, "holds '4 3 99"),
        ({"sizes": "4 3 3"}, "cut short"),
        ({"sizes": "4 3 1"}, "more data"),
        ({"sizes": None}, "no field 'sizes'"),
        ({"dimension": "9", "sizes": "1 1 1 1 1 1 1 1 24"}, "9 axes"),
        ({"dimension": "1", "sizes": "24", "kinds": "domain", "space": None, "space_directions": None}, "axes"),
        ({"type": "block"}, "type 'block'"),
        ({"type": "float"}, "order of bytes"),
        ({"encoding": "hex"}, "encoding 'hex'"),
        ({"encoding": "gzip"}, "damaged"),
        ({"space_directions": "(0.75,0,0) (0,0.9,0)"}, "more axes than space directions"),
        ({"space_directions": "(0.75,0) (0,0.9) (0,3)"}, "do not fit its space"),
        ({"space_directions": "(nan,0,0) (0,0.9,0) (0,0,3)"}, "not finite"),
        ({"space_directions": "(0,0,0) (0,0.9,0) (0,0,3)"}, "singular"),
        ({"space_directions": "(1,0,0) (1,0,0) (0,0,3)"}, "singular"),
        ({"space_directions": "(a,0,0) (0,0.9,0) (0,0,3)"}, "'space directions' holds"),
        ({"space_origin": "(inf,0,0)"}, "not finite"),
        ({"space_origin": "(1e300,0,0)"}, "kilometres away"),
        ({"space_directions": "(1e308,0,0) (0,0.9,0) (0,0,3)", "space_units": '"m" "m" "m"'}, "not finite"),
        ({"space": None, "space_directions": None, "spacings": "1 0 1"}, "voxel size of 0"),
        ({"space": None, "space_directions": None, "spacings": "1 nan 1"}, "voxel size of nan"),
        ({"space": None, "space_directions": None, "spacings": "1 1"}, "more axes than voxel sizes"),
        ({"kinds": "domain domain"}, "3 axes and 2 kinds"),
        ({"line_skip": "3"}, "skipping lines"),
        ({"byte_skip": "-7"}, "skipping -7 bytes"),
        ({"nonsense\nwithout colon": "1"}, "the line"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, changes: dict[str, str | None], words: str) -> None:
    path = make(tmp_path / "a.nrrd", **changes)
    for read in (read_volume, read_segmentation):
        with pytest.raises(FileError, match=words) as caught:
            read(path)
        assert len(str(caught.value)) <= 160


def test_a_header_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(b"NRRD0004\n" + b"# x\n" * 600_000)
    with pytest.raises(FileError, match="no end within 1 MB"):
        read_volume(path)
    path.write_bytes(b"NRRD0004\n" + b"#" * 3_000_000)
    with pytest.raises(FileError, match="no end within 1 MB"):
        read_volume(path)


def test_slices_in_space_keep_their_place(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, 0.7], [0.6, 0.8 * 0.9, 0], [-0.8, 0.6 * 0.9, 0]]
    matrix[:3, 3] = 5, 6, 7
    grid = Grid((3, 4), (0.9, 0.7), matrix, orientation_known=True)
    write_volume(tmp_path / "s.nrrd", Volume(VALUES[:12].reshape(3, 4), grid))
    back = read_volume(tmp_path / "s.nrrd")
    far = np.array([2, 3])
    np.testing.assert_allclose(back.grid.to_patient(far), grid.to_patient(far))
