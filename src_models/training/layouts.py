"""Folders of data sets as people keep them: `images/` and `labels/`, MSD's and nnU-Net's `dataset.json`.

Each function finds the files of one layout and reads no voxel. Hidden files, such as the `._` files that macOS leaves
beside every file of the MSD, are passed over. Names in a `dataset.json` may not lead out of its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from src_models.errors import FileError, InputError
from src_models.files import READABLE_SUFFIXES, describe
from src_models.files.gate import shown
from src_models.training.case import Case, case_from_files
from src_models.weights.card import Label, TrainingData

_MAX_JSON_BYTES = 64 * 2**20
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Found:
    """What a folder holds, before labels are looked at.

    Attributes
    ----------
    cases : tuple of Case
        Sorted by id, each its own group.
    channels : tuple of str
        Their names.
    labels : tuple of Label
        Empty where the folder does not say.
    head, ignore_label, about
        As in `DataSet`.
    groups : mapping of str to str
        Case to patient, where the folder says so.
    notes : tuple of str
        What was left out.
    """

    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    head: Literal["softmax", "sigmoid"] = "softmax"
    ignore_label: int | None = None
    groups: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()
    about: TrainingData = field(default_factory=TrainingData)


def find(folder: Path) -> Found:
    """The cases of a folder in one of the layouts.

    Raises
    ------
    FileError, InputError
        Where it is in none of them, with the layouts that are known.
    """
    try:
        return _found(folder)
    except OSError as error:
        reason = (error.strerror or "the system refused it").lower()
        raise FileError(
            "data-access", f"{shown(folder.name)} cannot be read", reason, "Check its access rights."
        ) from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # dataset.json comes from outside: whatever it holds in the place of what is expected.
        raise _broken("its fields are not what they should be") from error


def _found(folder: Path) -> Found:
    if not folder.is_dir():
        raise FileError("data-folder", f"{shown(folder.name)} is not a folder", "", "Give the folder of the data set.")
    described = folder / "dataset.json"
    if described.is_file():
        content = _json(described)
        return _msd(folder, content) if isinstance(content.get("training"), list) else _nnunet(folder, content)
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return _pairs(folder)
    raise FileError(
        "data-layout",
        f"{shown(folder.name)} is no data set that is known",
        "it has neither a dataset.json nor the folders images and labels",
        "Put images into images/ and their labels, under the same names, into labels/.",
    )


def stem_of(path: Path) -> str:
    """The name of a file without the ending of its format: `a.b` for `a.b.nii.gz`."""
    name = path.name
    for suffix in sorted(READABLE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def images_in(folder: Path) -> dict[str, Path]:
    """The readable files of a folder by their stems; hidden files are passed over.

    Raises
    ------
    InputError
        Where two files have one stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(READABLE_SUFFIXES) or not path.is_file():
            continue
        stem = stem_of(path)
        if stem in found:
            raise InputError(
                "data-stem",
                f"{shown(folder.name)} has two files named {shown(stem)}",
                f"{shown(found[stem].name)} and {shown(path.name)}",
                "Keep one of them.",
            )
        found[stem] = path
    return found


def _pairs(folder: Path) -> Found:
    images, labels = images_in(folder / "images"), images_in(folder / "labels")
    both = [name for name in images if name in labels]
    if not both:
        raise FileError(
            "data-empty",
            f"{shown(folder.name)} has no image with labels of the same name",
            f"images holds {len(images)} and labels {len(labels)} readable files",
            "Name a label file as its image.",
        )
    facts = describe(images[both[0]])
    count = facts.leading_length
    channels = _COLOURS if count == 3 and facts.leading_axis == "c" else tuple(f"channel {k}" for k in range(count))
    return Found(
        tuple(case_from_files(name, (images[name],), labels[name]) for name in both),
        ("image",) if count == 1 else channels,
        notes=(
            *_left_out("image", "without labels", [n for n in images if n not in labels]),
            *_left_out("label file", "without an image", [n for n in labels if n not in images]),
        ),
    )


def _msd(folder: Path, content: Mapping[str, Any]) -> Found:
    """The layout of the Medical Segmentation Decathlon: pairs are listed, labels are ``{"1": "liver"}``."""
    cases: dict[str, Case] = {}
    missing = []
    for entry in content["training"]:
        if not isinstance(entry, Mapping) or "image" not in entry or "label" not in entry:
            raise _broken("its training list holds something else than pairs of image and label")
        image, label = _inside(folder, entry["image"]), _inside(folder, entry["label"])
        name = stem_of(image)
        if name.startswith("."):
            continue
        if not image.is_file() or not label.is_file():
            missing.append(name)
            continue
        cases[name] = case_from_files(name, (image,), label)
    names = {int(value): str(name) for value, name in _mapping(content, "labels").items()}
    labels = tuple(Label(name=name, value=value, channel=k) for k, (value, name) in enumerate(sorted(names.items())))
    channels = tuple(str(name) for _, name in sorted(_mapping(content, "modality").items(), key=lambda kv: int(kv[0])))
    return Found(
        _sorted(cases, folder),
        channels,
        _with_background(labels),
        groups=_groups(content),
        notes=_left_out("listed case", "without its files", missing),
        about=_about(content),
    )


def _nnunet(folder: Path, content: Mapping[str, Any]) -> Found:
    """nnU-Net's raw layout: `imagesTr/NAME_0000.ext`, `labelsTr/NAME.ext`; `dataset` may list the files instead."""
    names = _mapping(content, "channel_names" if "channel_names" in content else "modality")
    channels = tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
    labels, head, ignore = _nnunet_labels(content)
    cases: dict[str, Case] = {}
    missing: list[str] = []
    unlabelled: list[str] = []
    if isinstance(content.get("dataset"), Mapping):
        for name, entry in content["dataset"].items():
            paths = tuple(_inside(folder, image) for image in entry["images"])
            cases[str(name)] = case_from_files(str(name), paths, _inside(folder, entry["label"]))
    else:
        ending = str(content.get("file_ending", ".nii.gz"))
        for path in _with_ending(folder / "labelsTr", ending):
            name = path.name[: -len(ending)]
            images = tuple(folder / "imagesTr" / f"{name}_{k:04d}{ending}" for k in range(len(channels)))
            if all(image.is_file() for image in images):
                cases[name] = case_from_files(name, images, path)
            else:
                missing.append(name)
        first = [path.name[: -len(ending) - 5] for path in _with_ending(folder / "imagesTr", f"_0000{ending}")]
        unlabelled = [name for name in first if name not in cases and name not in missing]
    return Found(
        _sorted(cases, folder),
        channels,
        labels,
        head,
        ignore,
        groups=_groups(content),
        notes=(
            *_left_out("label file", f"without its {len(channels)} channel(s)", missing),
            *_left_out("image", "without labels", unlabelled),
        ),
        about=_about(content),
    )


def _nnunet_labels(content: Mapping[str, Any]) -> tuple[tuple[Label, ...], Literal["softmax", "sigmoid"], int | None]:
    entries = dict(_mapping(content, "labels"))
    ignore = entries.pop("ignore", None)
    regions = any(isinstance(value, list) and len(value) > 1 for value in entries.values())
    try:
        ignored = None if ignore is None else int(ignore)
        if not regions:
            pairs = sorted((int(v[0] if isinstance(v, list) else v), name) for name, v in entries.items())
            plain = tuple(Label(name=name, value=value, channel=k) for k, (value, name) in enumerate(pairs))
            return _with_background(plain), "softmax", ignored
        entries.pop("background", None)
        order = [int(value) for value in content["regions_class_order"]]
        return (
            tuple(
                Label(
                    name=name,
                    value=order[k],
                    channel=k,
                    members=tuple(int(v) for v in (value if isinstance(value, list) else [value])),
                )
                for k, (name, value) in enumerate(entries.items())
            ),
            "sigmoid",
            ignored,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _broken("its labels are not {name: value}, or regions come without regions_class_order") from error


def _with_background(labels: tuple[Label, ...]) -> tuple[Label, ...]:
    if any(label.value == 0 for label in labels):
        return labels
    moved = tuple(label.model_copy(update={"channel": label.channel + 1}) for label in labels)
    return (Label(name="background", value=0, channel=0), *moved)


def _groups(content: Mapping[str, Any]) -> Mapping[str, str] | None:
    given = content.get("groups")
    return {str(k): str(v) for k, v in given.items()} if isinstance(given, Mapping) else None


def _about(content: Mapping[str, Any]) -> TrainingData:
    words = {key: str(content.get(key, "")) for key in ("name", "reference", "licence", "description")}
    licence = words["licence"] or str(content.get("license", ""))
    return TrainingData(name=words["name"], citation=words["reference"], licence=licence, source=words["description"])


def _sorted(cases: Mapping[str, Case], folder: Path) -> tuple[Case, ...]:
    if not cases:
        raise FileError(
            "data-empty", f"{shown(folder.name)} has no labelled case", "", "Check the names in its dataset.json."
        )
    return tuple(cases[name] for name in sorted(cases))


def _with_ending(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        raise FileError("data-folder", f"The folder {folder.name} is missing", "", "Complete the data set.")
    return sorted(p for p in folder.iterdir() if p.name.endswith(ending) and not p.name.startswith("."))


def _left_out(what: str, why: str, names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    listed = ", ".join(shown(name, 40) for name in names[:8]) + (", ..." if len(names) > 8 else "")
    return (f"{len(names)} {what}{'s' if len(names) > 1 else ''} {why} left out: {listed}.",)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _broken("it is larger than 64 MB")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken("it is no JSON") from error
    if not isinstance(content, Mapping):
        raise _broken("it holds no fields")
    return content


def _mapping(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    if isinstance(value, list):
        value = {str(k): name for k, name in enumerate(value)}
    if not isinstance(value, Mapping) or not value:
        raise _broken(f"it has no {key}")
    return value


def _inside(folder: Path, name: Any) -> Path:
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise _broken(f"it names {shown(str(name), 40)}, which lies outside its folder")
    return path


def _broken(why: str) -> FileError:
    return FileError("dataset-json", "dataset.json cannot be used", why, "Correct it.")
