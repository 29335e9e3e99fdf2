"""The part of ``lsnet kernels`` that takes kernels away: flags, cases, and what is written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src_models.cli import report
from src_models.errors import FileError, InputError
from src_models.files.gate import shown_name
from src_models.progress import finish

if TYPE_CHECKING:
    from src_models.kernels.evaluation import EvaluationCase
    from src_models.kernels.knockout import Effect
    from src_models.kernels.result import KernelReport
    from src_models.kernels.selection import Selection
    from src_models.kernels.sources import Source
    from src_models.networks.network import Network
    from src_models.weights.card import ModelCard

METRICS = ("dice", "jaccard", "recall", "precision")
_WORDS = ("labels", "operators")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the experiments."""
    group = parser.add_argument_group("what kernels do for the result, with --knock-out")
    group.add_argument(
        "--knock-out",
        metavar="WHICH",
        action="append",
        default=[],
        help="labels (each label on its own), operators (each operator), or a selection such as "
        "'label=edge; layer=decoder*'. May be given several times. Needs --data.",
    )
    group.add_argument("--data", metavar="FOLDER", type=Path, help="images/ and labels/ with equal names.")
    group.add_argument("--groups", metavar="RULE", help="Which cases are of one patient; see lsnet train.")
    group.add_argument("--map", metavar="OLD:NEW", action="append", default=[], help="Read a label value as another.")
    group.add_argument(
        "--patients", metavar="LIST", help="Those that the network has not seen: names with commas, or a file of lines."
    )
    group.add_argument("--most", metavar="N", type=int, help="Cases of a patient that are used, evenly chosen.")
    group.add_argument(
        "--operation",
        metavar="WHAT",
        default="zero",
        help="zero, onto:SPAN, without:SPAN (mean-zero, first, first+second, or a preset), moments:1,2, template, "
        "shuffle, noise. Default: zero.",
    )
    group.add_argument("--controls", metavar="N", type=int, default=20, help="Random selections. Default: 20.")
    group.add_argument("--doses", action="store_true", help="Also at strengths 0.25, 0.5 and 0.75, as a curve.")
    group.add_argument(
        "--renormalise",
        action="store_true",
        help="Take the statistics of batch norms anew from the cases for each network that is scored, the unchanged "
        "one included; afterwards they are what they were.",
    )
    group.add_argument("--metric", choices=METRICS, default="dice", help="Default: dice.")
    group.add_argument("--run-on", metavar="DEVICE", default="cpu", help="Where the network runs. Default: cpu.")


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before the analysis.

    Raises
    ------
    InputError
        Naming the flag.
    """
    if not arguments.knock_out:
        return
    if arguments.data is None:
        raise InputError("knock-out-data", "--knock-out needs cases", "", "Give --data FOLDER with images and labels.")
    if arguments.controls < 1:
        raise InputError("knock-out-controls", "--controls must be at least 1", "an effect needs its control", "")
    from src_models.kernels.changes import Operation
    from src_models.kernels.selection import Selection

    Operation.parse(arguments.operation)
    for text in arguments.knock_out:
        if text not in _WORDS:
            Selection.parse(text)


@dataclass(frozen=True, eq=False)
class Ready:
    """What experiments run on: the model with its network and card, and the cases."""

    source: Source
    network: Network
    card: ModelCard
    cases: list[EvaluationCase]


def prepare(arguments: argparse.Namespace) -> Ready | None:
    """The model and the cases, read before the analysis: nobody should wait for that to hear that a file is missing.

    Raises
    ------
    InputError
        Where the model is bare tensors, which cannot be run, or has nothing that was asked for.
    """
    if not (arguments.knock_out or arguments.regions):
        return None
    from src_models.kernels.renormalise import check_norms
    from src_models.kernels.sources import open_source
    from src_models.networks.network import Network

    source = open_source(arguments.model, fold=arguments.fold)
    if source.card is None or not isinstance(source.network, Network):
        raise InputError(
            "knock-out-model",
            f"{source.name} cannot be run",
            "its file holds tensors without a network",
            "Import it first: lsnet weights import FILE --net NAME.",
        )
    if source.network.in_channels != len(source.card.preprocessing.channels):
        raise InputError(
            "knock-out-click",
            f"{source.name} takes a click beside the image",
            "what it finds depends on where it begins, and the cases hold no clicks",
            "Choose a model that takes images alone.",
        )
    if arguments.renormalise:
        check_norms(source.network)
    return Ready(source, source.network, source.card, cases(arguments))


def effects(ready: Ready, found: KernelReport, arguments: argparse.Namespace) -> tuple[Effect, ...]:
    """Every change that was asked for, under a bar or JSON lines."""
    from src_models.kernels.changes import Operation
    from src_models.kernels.evaluation import Evaluation
    from src_models.kernels.knockout import DOSES, knock_out

    evaluation = Evaluation(
        ready.card,
        ready.cases,
        arguments.metric,
        arguments.run_on,
        distances=True,
        renormalise=arguments.renormalise,
    )
    work = knock_out(
        ready.network,
        found,
        selections(found, arguments.knock_out),
        evaluation.run,
        Operation.parse(arguments.operation),
        draws=arguments.controls,
        doses=DOSES if arguments.doses else (),
        seed=found.parameters.seed,
    )
    with report.watch_job(arguments.json, "knock-out", "progress") as show:
        return finish(work, show)


def files(
    effects: Sequence[Effect], found: KernelReport, arguments: argparse.Namespace
) -> tuple[dict[str, bytes], str]:
    """What is written about the experiments, by name; and a section for the page of the analysis."""
    from src_models.kernels.figures import has_figures
    from src_models.kernels.knockout_figures import draw_effects
    from src_models.kernels.knockout_report import cases_csv, effects_csv, effects_json, effects_page, effects_section
    from src_models.metrics import FORMULAS

    metric = FORMULAS[arguments.metric].title
    settings = {
        "model": found.record.inputs,
        "selections": arguments.knock_out,
        "operation": arguments.operation,
        "controls": arguments.controls,
        "renormalise": arguments.renormalise,
        "seed": found.parameters.seed,
    }
    made = {
        "effects.csv": effects_csv(effects),
        "effects_cases.csv": cases_csv(effects),
        "effects.json": effects_json(effects, arguments.metric, settings),
    }
    drawn: dict[str, bytes] = {}
    if has_figures() and not arguments.no_figures:
        drawn = draw_effects(effects, metric)
        made |= {f"{name}.png": content for name, content in drawn.items()}
        if arguments.svg:
            made |= {f"{name}.svg": content for name, content in draw_effects(effects, metric, "svg").items()}
    told = [found.record.research_use, f"Weights {str(found.record.inputs.get('weights_sha256', ''))[:16]}, "]
    told = [f"{told[0]} {told[1]}seed {found.parameters.seed}."]
    if arguments.renormalise:
        told.insert(0, "The statistics of batch norms were taken from these images for every network that was scored.")
    name = str(found.record.inputs.get("model", "model"))
    made["effects.html"] = effects_page(name, effects, metric, drawn, told).encode()
    return made, effects_section(effects, metric, drawn)


def selections(found: KernelReport, texts: list[str]) -> list[Selection]:
    """What the words and selections on the command line mean for an analysis."""
    from src_models.kernels.dictionary import DEAD
    from src_models.kernels.result import Categories
    from src_models.kernels.selection import Selection

    made = []
    for text in texts:
        if text not in _WORDS:
            made.append(Selection.parse(text))
            continue
        column = "label" if text == "labels" else "pde_class"
        words = found.table[column]
        counts = words.counts() if isinstance(words, Categories) else {}
        made += [Selection(**{column: (name,)}) for name, count in counts.items() if count and name != DEAD]
    return made


def cases(arguments: argparse.Namespace) -> list[EvaluationCase]:
    """The cases of the folder, of the patients that were named.

    Raises
    ------
    InputError
        Where a named patient is not there.
    """
    from src_models.kernels.evaluation import EvaluationCase
    from src_models.training.cases import open_data_set
    from src_models.training.checks import parse_map

    data = open_data_set(arguments.data, groups=arguments.groups, label_map=parse_map(arguments.map))
    wanted = _names(arguments.patients)
    patients = {case.group for case in data.cases}
    missing = [name for name in wanted if name not in patients]
    if missing:
        raise InputError(
            "knock-out-patients", f"There is no patient {missing[0]} in the data", "", f"Such as {min(patients)}."
        )
    taken: dict[str, list[EvaluationCase]] = {}
    for patient in sorted(wanted or patients):
        mine = [case for case in data.cases if case.group == patient]
        if arguments.most is not None and len(mine) > arguments.most > 0:
            mine = [mine[(2 * k + 1) * len(mine) // (2 * arguments.most)] for k in range(arguments.most)]
        for case in mine:
            volume, segmentation = case.read()
            grid = volume.grid
            taken.setdefault(patient, []).append(
                EvaluationCase(
                    case.id,
                    patient,
                    volume.array,
                    grid.spacing,
                    segmentation.labels,
                    "mm" if grid.spacing_known else "px",
                )
            )
    return [case for several in taken.values() for case in several]


def _names(text: str | None) -> list[str]:
    if not text:
        return []
    path = Path(text)
    if path.is_file():
        if path.stat().st_size > 2**20:
            raise FileError("patients-size", f"{shown_name(path)} is too large for a list of names", "", "")
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [name.strip() for name in text.split(",") if name.strip()]
