"""``lsnet weights``: the models that are here or can be had, what they are for, and whether they are whole."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src_models.cli import report
from src_models.errors import FileError, InputError, SaveError
from src_models.preprocessing.click import START
from src_models.progress import finish
from src_models.weights.card import ModelCard
from src_models.weights.listing import Entry, available, find, models_folder
from src_models.weights.manifest import Manifest, read_manifest

_EPILOG = """\
examples:
  lsnet weights list
  lsnet weights show NAME
  lsnet weights import nnunet_model_folder --licence CC-BY-4.0
  lsnet weights export NAME --to bundle --out my_bundle

Nothing is downloaded unless get is asked for. Research use only; not a medical device."""
_ACTIONS = {
    "list": "every model: here, damaged, or to be had",
    "show": "the card of a model",
    "get": "download a model and verify it",
    "verify": "compare the hashes of models with their cards",
    "import": "take over an nnU-Net folder, a MONAI bundle or a file of tensors",
    "export": "write a model as a folder or as a MONAI bundle",
    "path": "the folder of the models",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every flag of the command."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parts = {}
    for name, purpose in _ACTIONS.items():
        part = actions.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        part.add_argument(
            "--folder", metavar="FOLDER", type=Path, help="The folder of models, in place of the usual one."
        )
        # also after the action, without undoing what stood before it
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="Write JSON for programs.")
        part.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        parts[name] = part
    for name in ("show", "get", "export"):
        parts[name].add_argument("name", metavar="NAME", help="A name from the list; NAME@VERSION for one version.")
    parts["verify"].add_argument("names", metavar="NAME", nargs="*", help="Models to verify. Default: all.")
    _add_import_flags(parts["import"])
    export = parts["export"]
    export.add_argument("--to", choices=("folder", "bundle"), default="folder", help="Default: folder.")
    export.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="Where to; made where it is missing.")
    export.add_argument("--overwrite", action="store_true", help="Replace files of an earlier export.")
    for name in ("list", "get"):
        parts[name].add_argument(
            "--manifest", metavar="FILE", type=Path, help="A list of models to download, in place of the program's."
        )
    get = parts["get"]
    get.add_argument("--url", metavar="URL", help="Another address of the file, or a mirror, with / at its end.")
    get.add_argument("--proxy", metavar="URL", help="A proxy. Default: that of the system.")
    get.add_argument("--offline", action="store_true", help="Only say which file to put where.")


def _add_import_flags(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "source", metavar="SOURCE", type=Path, help="A folder of nnU-Net, a MONAI bundle, a .zip, or a file of tensors."
    )
    part.add_argument("--net", metavar="NAME", help="Which network it is, for bundles and files of tensors.")
    part.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="An option of that network, such as depth=3."
    )
    part.add_argument(
        "--card", metavar="FILE", type=Path, help="A JSON file with what is known: labels, preprocessing, patch, ..."
    )
    part.add_argument("--licence", metavar="TEXT", default="", help="Under which licence the weights may be used.")
    part.add_argument("--name", metavar="NAME", default="", help="In place of the name that is made.")
    part.add_argument("--folds", metavar="LIST", default="", help="Of a model of nnU-Net, such as 0,1. Default: all.")
    part.add_argument("--overwrite", action="store_true", help="Replace a model of the same name.")


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    return _RUN[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    entries = available(arguments.folder, manifest=_manifest(arguments))
    if arguments.json:
        report.write_json([_plain(entry) for entry in entries])
        return 0
    if not entries:
        report.say("There are no models yet. Train one, or import one: lsnet weights import FOLDER.")
    rows = [("NAME", "STATE", "SIZE", "LICENCE", "TASK")]
    rows += [(f"{e.name}@{e.version}", e.state, size_text(e.size_bytes), e.licence, e.task) for e in entries]
    if entries:
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        report.say(*("  ".join([*(row[k].ljust(widths[k]) for k in range(4)), row[4]]).rstrip() for row in rows))
    report.say(*(f"Note: {entry.problem}" for entry in entries if entry.problem))
    return 0


def _manifest(arguments: argparse.Namespace) -> Manifest | None:
    return None if arguments.manifest is None else read_manifest(arguments.manifest)


def _show(arguments: argparse.Namespace) -> int:
    entry = _named(arguments.name, arguments.folder)
    if entry.card is None:
        raise FileError("weights-damaged", f"{entry.name} is damaged", entry.problem.rstrip("."), "")
    if arguments.json:
        report.write_json(entry.card.model_dump(mode="json") | {"state": entry.state})
    else:
        report.say(*card_lines(entry.card), f"  state     {entry.state}")
    return 0


def _get(arguments: argparse.Namespace) -> int:
    from src_models.weights.download import download, offer_named

    try:
        offer = offer_named(arguments.name, _manifest(arguments))
    except InputError:
        # one that came with the program, or was trained here, has no download and needs none
        wanted, _, version = arguments.name.partition("@")
        same = [e for e in available(arguments.folder) if e.name == wanted and version in ("", e.version) and e.usable]
        if not same:
            raise
        if arguments.json:
            report.write_json({"event": "result", **_plain(same[-1])})
        else:
            report.say(f"{same[-1].name}@{same[-1].version} is here already ({same[-1].state}): nothing to download.")
        return 0
    work = download(offer, arguments.folder, url=arguments.url, proxy=arguments.proxy, offline=arguments.offline)
    with report.watch_job(arguments.json, f"downloading {offer.name}", "download") as show:
        entry = finish(work, show)
    if arguments.json:
        report.write_json({"event": "result", **_plain(entry)})
    else:
        report.say(f"Saved {entry.path}, {size_text(entry.size_bytes)}, licence {entry.licence}.")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from src_models.weights.store import verify

    entries = [entry for entry in available(arguments.folder) if entry.path is not None]
    if arguments.names:
        entries = [_named(name, arguments.folder) for name in arguments.names]
    damaged = 0
    for entry in entries:
        with report.watch_job(arguments.json, f"verifying {entry.name}", "verify") as show:
            found = finish(verify(entry), show)
        bad = found.state == "damaged"
        damaged += bad
        if arguments.json:
            report.write_json({"event": "verified", **_plain(found)})
        else:
            report.say(f"{found.name}@{found.version}: {found.problem if bad else 'whole'}")
    return FileError.exit_code if damaged else 0


def _import(arguments: argparse.Namespace) -> int:
    from src_models.weights.importers import ImportOptions, import_model
    from src_models.weights.nnunet_plans import read_json

    options = ImportOptions(
        licence=arguments.licence,
        name=arguments.name,
        net=arguments.net or "",
        settings=dict(_setting(text) for text in arguments.set),
        card=read_json(arguments.card) if arguments.card else None,
        folds=tuple(fold.strip() for fold in arguments.folds.split(",") if fold.strip()),
        overwrite=arguments.overwrite,
    )
    with report.watch_job(arguments.json, "importing", "import") as show:
        entries = finish(import_model(arguments.source, arguments.folder, options), show)
    if arguments.json:
        report.write_json({"event": "result", "models": [_plain(entry) for entry in entries]})
        return 0
    for entry in entries:
        licence = entry.licence or "not stated: say it with --licence"
        report.say(f"Imported {entry.name}@{entry.version}, {size_text(entry.size_bytes)}, licence {licence}.")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from src_models.weights.exporting import export

    entry = _named(arguments.name, arguments.folder)
    if entry.path is None:
        raise InputError("weights-not-here", f"{entry.name} is not on this computer", "", "Download it first.")
    try:
        files = export(entry.path, arguments.out, arguments.to, overwrite=arguments.overwrite)
    except SaveError as error:
        if error.code != "save-exists":
            raise
        raise SaveError(
            error.code, f"{arguments.out.name} holds an export already", "", "Choose another --out, or add --overwrite."
        ) from error
    if arguments.json:
        report.write_json({"event": "result", "files": [str(path) for path in files]})
    else:
        report.say(f"Saved {len(files)} files in {arguments.out}.")
    return 0


def _setting(text: str) -> tuple[str, Any]:
    """``depth=3`` as a name and a value, which is JSON where it can be read so."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError("import-set", f"--set {text!r} cannot be read", "", "Write NAME=VALUE, such as depth=3.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _path(arguments: argparse.Namespace) -> int:
    folder = models_folder(arguments.folder)
    if arguments.json:
        report.write_json({"path": str(folder)})
    else:
        report.say(str(folder))
    return 0


_RUN = {
    "list": _list,
    "show": _show,
    "get": _get,
    "verify": _verify,
    "import": _import,
    "export": _export,
    "path": _path,
}


def card_lines(card: ModelCard) -> list[str]:
    """A card in plain lines."""
    channels = ", ".join(f"{channel.name} ({channel.normalisation})" for channel in card.preprocessing.channels)
    if card.click is not None:
        channels += f", and a click as channel {START}"
    spacing = card.preprocessing.spacing
    unit = card.preprocessing.unit
    data = card.training_data
    lines = [
        f"{card.name}, version {card.version}: {card.task or 'task not stated'}",
        f"  use       {card.intended_use}",
        f"  network   {card.network.get('name', '?')}, {card.ndim}D, patch {' x '.join(str(n) for n in card.patch)}",
        f"  input     {channels}" + (f", {card.modality}" if card.modality else ""),
        f"  spacing   {' x '.join(f'{h:g}' for h in spacing) + ' ' + unit if spacing else 'as it is'}",
        f"  labels    {', '.join(f'{label.value} {label.name}' for label in card.labels)}",
        f"  data      {data.name or 'not stated'}" + (f", {data.patients} patients" if data.patients else ""),
        f"  licence   weights {card.weights_licence or 'not stated'}, data {data.licence or 'not stated'}",
    ]
    lines += [f"  scores    {_scores(row)}" for row in _told_once(card.metrics)]
    if card.metrics_note:
        lines.append(f"  note      {card.metrics_note}")
    lines.append(f"  weights   {size_text(card.size_bytes)}, SHA-256 {card.sha256}")
    return lines


def size_text(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _told_once(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of scores without the means that say again what the row of a single label says."""
    alone = [{**row, "name": "mean"} for row in rows if row.get("name") != "mean"]
    return [row for row in rows if row.get("name") != "mean" or row not in alone]


def _scores(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )


def _named(name: str, folder: Path | None) -> Entry:
    """The one model that a name means; also one that is damaged or not here."""
    wanted, _, version = name.partition("@")
    exact = [e for e in available(folder) if e.name == wanted and version in ("", e.version)]
    usable = [entry for entry in exact if entry.usable]
    if exact and not usable:
        return exact[-1]
    found = find(name, folder)
    if len(found) > 1:
        names: Sequence[str] = [entry.name for entry in found]
        raise InputError("weights-several", f"{name} means {len(found)} models", "", f"Choose one: {', '.join(names)}.")
    return found[0]


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "state": entry.state,
        "task": entry.task,
        "licence": entry.licence,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "path": None if entry.path is None else str(entry.path),
        "problem": entry.problem,
    }
