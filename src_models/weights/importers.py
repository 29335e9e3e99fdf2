"""Models of others, taken over as safetensors with a card: nnU-Net folders, MONAI bundles, files of tensors.

No program that comes with a model is run, and no object is built but tensors and plain numbers.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_models.errors import FileError, InputError, SaveError
from src_models.files.gate import shown, shown_name
from src_models.progress import Progress
from src_models.record import versions
from src_models.weights.archives import unpack
from src_models.weights.bundle import METADATA, OUR_CARD, card_from_metadata, weights_of_bundle
from src_models.weights.card import Label, ModelCard
from src_models.weights.cascade import first_stage_paths, named_stages, without_ways
from src_models.weights.checkpoints import SUFFIXES, read_checkpoint, state_in
from src_models.weights.listing import Entry, entry_of, models_folder
from src_models.weights.nnunet_folder import nnunet_models, second_stage
from src_models.weights.nnunet_plans import read_json
from src_models.weights.pairs import WEIGHTS_SUFFIX, parse_card, plain_name, read_card, read_weights, stem_of
from src_models.weights.store import in_folder, load_pair, network_with, serialise, tensors_in, write_pair

if TYPE_CHECKING:
    from torch import Tensor

    from src_models.networks.network import Network


@dataclass(frozen=True)
class ImportOptions:
    """What the person says about a model that is imported.

    Attributes
    ----------
    licence : str
        Of the weights.
    name : str
        In place of the one that is made.
    net : str
        Of the network here; for files of tensors and bundles.
    settings : mapping
        Options of that network.
    card : mapping or None
        Fields of the card, for files of tensors: labels, preprocessing, patch and so on.
    folds : tuple of str
        Of an nnU-Net folder; all by default.
    overwrite : bool
        Whether an installed model of the same name may be replaced.
    """

    licence: str = ""
    name: str = ""
    net: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] | None = None
    folds: tuple[str, ...] = ()
    overwrite: bool = False


def import_model(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    options: ImportOptions | None = None,
) -> Generator[Progress, None, tuple[Entry, ...]]:
    """Take a model over; a generator of progress that returns its entries, one per fold.

    Parameters
    ----------
    source : path-like
        An nnU-Net folder of one configuration, a MONAI bundle, a ZIP archive of either, a file of tensors
        (safetensors, or written by torch), or a model of this program.
    folder : path-like, optional
        As in `models_folder`.
    options : ImportOptions, optional
        What the person says.

    Raises
    ------
    FileError, InputError, SaveError
        One sentence each; what was imported before stays.
    """
    path, chosen = Path(source), options or ImportOptions()
    place = models_folder(folder)
    if not path.exists():
        raise FileError("import-missing", f"{shown_name(path)} was not found", "", "Check the name and the folder.")
    yield Progress(phase="import", message=f"reading {shown_name(path)}")
    if path.is_file() and path.suffix.lower() == ".zip":
        with tempfile.TemporaryDirectory() as unpacked:
            unpack(path, Path(unpacked))
            return (yield from _import_folder(Path(unpacked), place, chosen))
    if path.is_dir():
        return (yield from _import_folder(path, place, chosen))
    return (yield from _import_file(path, place, chosen))


def _import_folder(path: Path, place: Path, options: ImportOptions) -> Generator[Progress, None, tuple[Entry, ...]]:
    nnunet = folder_with("plans.json", path)
    if nnunet is not None:
        return (yield from import_nnunet(nnunet, place, options))
    bundle = folder_with(METADATA, path)
    if bundle is not None:
        return (yield from _import_bundle(bundle, place, options))
    ours: tuple[Path, ...] = ()
    with suppress(FileError):
        ours = in_folder(path)
    if ours and not options.net:
        return (yield from _import_ours(ours, place, options))
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in (*SUFFIXES, WEIGHTS_SUFFIX)]
    if len(files) == 1:
        return (yield from _import_file(files[0], place, options))
    raise FileError(
        "import-kind",
        f"{shown_name(path)} is no model that can be imported",
        "it has neither plans.json nor configs/metadata.json",
        "Choose the folder of an nnU-Net configuration, a MONAI bundle, or a file.",
    )


def import_nnunet(folder: Path, place: Path, options: ImportOptions) -> Generator[Progress, None, tuple[Entry, ...]]:
    """Every fold of an nnU-Net folder, of a cascade with its first stage; all are read before the first is written."""
    work = nnunet_models(folder, name=options.name, licence=options.licence, folds=options.folds)
    return _installed((yield from work), place, options)


def _import_bundle(bundle: Path, place: Path, options: ImportOptions) -> Generator[Progress, None, tuple[Entry, ...]]:
    """The weights and the metadata of a MONAI bundle; its configurations, which can hold programs, are not read."""
    weights = weights_of_bundle(bundle)
    yield Progress(phase="import", message=f"reading {shown_name(weights)}")
    state = _tensors(weights)
    ours = bundle / OUR_CARD
    if ours.is_file() and not options.net:
        card = parse_card(read_json(ours), shown_name(ours))
        network = network_with(card.network, state, shown_name(weights))
        changes = {"weights_licence": options.licence or card.weights_licence, "name": options.name or card.name}
        return _installed([(serialise(network.state_dict()), card.model_copy(update=changes))], place, options)
    metadata = read_json(bundle / METADATA)
    fields = card_from_metadata(metadata, bundle.resolve().name) | dict(options.card or {})
    return _installed([_named_network(state, weights, options, fields)], place, options)


def _import_file(path: Path, place: Path, options: ImportOptions) -> Generator[Progress, None, tuple[Entry, ...]]:
    """A file of tensors whose network the person names, or a model of this program with its card."""
    entry = entry_of(path) if path.name.lower().endswith(WEIGHTS_SUFFIX) else None
    if entry is not None and entry.card is not None and not options.net:
        return (yield from _import_ours([path], place, options))
    yield Progress(phase="import", message=f"reading {shown_name(path)}")
    fields = {"name": plain_name(path.name.partition(".")[0])} | dict(options.card or {})
    return _installed([_named_network(_tensors(path), path, options, fields)], place, options)


def _import_ours(
    paths: Sequence[Path], place: Path, options: ImportOptions
) -> Generator[Progress, None, tuple[Entry, ...]]:
    """Models of this program, checked and under the names on their cards; all are read before one is written.

    The first stage of a cascade comes with it, unless it is there.
    """
    made: list[tuple[bytes, ModelCard]] = []
    stages: dict[str, Path] = {}
    for number, path in enumerate(paths):
        yield Progress(phase="import", fraction=number / len(paths), message=f"checking {shown_name(path)}")
        model = load_pair(path)
        card = model.card
        stages |= {read_card(one).sha256: one for one in first_stage_paths(path, card, place)}
        fold = f"-fold{card.fold}" if len(paths) > 1 and card.fold.isdecimal() else ""
        changes = {
            "weights_licence": options.licence or card.weights_licence,
            "name": options.name + fold if options.name else card.name,
            "first_stage": without_ways(card.first_stage),
        }
        made.append((serialise(model.network.state_dict()), card.model_copy(update=changes)))
    there = {card.sha256 for _, card in made}
    missing = [one for sha256, one in stages.items() if sha256 not in there and one.parent != place]
    base = f"{options.name}-first-stage" if options.name else ""
    made += [(read_weights(path, card), card) for path, card in named_stages(missing, base)]
    return _installed(made, place, options)


def _named_network(
    state: dict[str, Tensor], path: Path, options: ImportOptions, fields: Mapping[str, Any]
) -> tuple[bytes, ModelCard]:
    """Weights and card for tensors of a network that the person has named."""
    from src_models.networks.zoo import NAMES

    if not options.net:
        raise InputError(
            "import-net",
            f"{shown_name(path)} does not say of which network it is",
            "",
            f"Name it with --net: {', '.join(NAMES)}.",
        )
    kernels = [value for value in state.values() if value.ndim in (4, 5)]
    if not kernels:
        raise FileError("import-kernels", f"{shown_name(path)} holds no convolutions", "", "Choose another file.")
    config = _config_for(state, options, kernels[0].ndim - 2)
    network = network_with(config, state, shown_name(path))
    known: dict[str, Any] = {
        "version": "1",
        "network": network.config,
        "ndim": network.ndim,
        "preprocessing": {"channels": [{"name": f"channel {k}"} for k in range(network.in_channels)]},
        "patch": [128] * network.ndim if network.ndim == 3 else [256] * network.ndim,
        "labels": _unnamed_labels(network.num_classes),
        "metrics_note": "imported: how images were prepared in training was not said",
        "versions": versions("torch"),
        "created": _today(),
    }
    given = known | dict(fields) | {"network": network.config, "ndim": network.ndim}
    given["weights_licence"] = options.licence or str(given.get("weights_licence", ""))
    given["name"] = options.name or given["name"]
    card = parse_card(given, shown_name(path))
    if len(card.labels) != network.num_classes:
        raise InputError(
            "import-labels",
            f"The card names {len(card.labels)} labels, the network has {network.num_classes} outputs",
            "",
            "Name every output, background included.",
        )
    return serialise(network.state_dict()), card


def _config_for(state: Mapping[str, Tensor], options: ImportOptions, ndim: int) -> dict[str, Any]:
    """The network that the person named, with as many channels and classes as its first and last kernel have.

    Files do not keep the order of tensors; the network itself knows which are first and last.
    """
    import torch

    from src_models.networks.zoo import build

    def built(channels: int, classes: int) -> Network:
        with torch.device("meta"):
            return build(options.net, channels, classes, ndim, **dict(options.settings))

    keys = [key for key, value in built(1, 2).state_dict().items() if value.ndim == ndim + 2]
    first, last = state.get(keys[0]), state.get(keys[-1])
    if first is None or last is None or first.ndim < 2 or last.ndim < 1:
        return built(1, 2).config
    return built(int(first.shape[1]), int(last.shape[0])).config


def _installed(made: Sequence[tuple[bytes, ModelCard]], place: Path, options: ImportOptions) -> tuple[Entry, ...]:
    """Write models into the folder; names that are taken are told before anything is written."""
    targets = [place / (stem_of(card) + WEIGHTS_SUFFIX) for _, card in made]
    if len(set(targets)) < len(targets):
        raise InputError(
            "import-alike", "Several of these models have one name", targets[0].name, "Import them one by one."
        )
    for target in targets:
        if target.exists() and not options.overwrite:
            raise InputError(
                "import-exists",
                f"A model named {shown(target.name[: -len(WEIGHTS_SUFFIX)])} is there already",
                "",
                "Give another --name, or add --overwrite.",
            )
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "the system refused it").lower()
        raise SaveError("import-folder", f"{place.name} cannot be made", why, "Choose another folder.") from error
    for target, (content, card) in zip(targets, made, strict=True):
        write_pair(content, card, target, overwrite=options.overwrite)
    return tuple(entry_of(target) for target in targets)


def _tensors(path: Path) -> dict[str, Tensor]:
    suffix = path.suffix.lower()
    if suffix == WEIGHTS_SUFFIX:
        from src_models.files.gate import check_file

        check_file(path)
        return state_in(tensors_in(path.read_bytes(), shown_name(path)), shown_name(path))
    if suffix in SUFFIXES:
        return state_in(read_checkpoint(path), shown_name(path))
    raise FileError(
        "import-suffix",
        f"{shown_name(path)} is no model that can be imported",
        "",
        f"Choose a folder, a .zip, or a file ending in {', '.join((WEIGHTS_SUFFIX, *SUFFIXES))}.",
    )


def folder_with(name: str, top: Path) -> Path | None:
    """The folder that holds a file, at the top or up to three folders below where it is the only one.

    Of two folders of nnU-Net, the second stage of a cascade and its first, it is the second.

    Raises
    ------
    InputError
        Where there are several.
    """
    for depth in range(4):
        found = sorted(path for path in top.glob("*/" * depth + name) if path.is_file())
        folders = [path.parents[len(Path(name).parts) - 1] for path in found]
        if len(found) > 1:
            second = second_stage(folders)
            if second is not None:
                return second
            raise InputError(
                "import-several",
                f"{shown_name(top)} holds {len(found)} models",
                "",
                "Choose the folder of one configuration.",
            )
        if found:
            return folders[0]
    return None


def _unnamed_labels(outputs: int) -> list[dict[str, Any]]:
    names = ["background", *(f"label {k}" for k in range(1, outputs))]
    return [Label(name=name, value=k, channel=k).model_dump() for k, name in enumerate(names)]


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
