"""Experiments with kernels: exact operations, bits put back, a planted effect found, chance told apart; drift."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src_models.errors import InputError
from src_models.kernels import KernelAnalysisParameters, KernelReport, analyse
from src_models.kernels.changes import SPANS, Operation, applied, modified, span
from src_models.kernels.drift import compare, comparison_csv, drift, first_change, json_lines
from src_models.kernels.evaluation import Evaluation, EvaluationCase, PatientScores
from src_models.kernels.knockout import knock_out, paired
from src_models.kernels.knockout_figures import draw_effects
from src_models.kernels.knockout_report import cases_csv, effects_csv, effects_json, effects_page, effects_section
from src_models.kernels.moments import moments
from src_models.kernels.renormalise import renormalise, restored, tracked
from src_models.kernels.result import Layer
from src_models.kernels.selection import Selection, controls, select
from src_models.metrics import Comparison, measure
from src_models.preprocessing.parameters import Channel, Preprocessing
from src_models.preprocessing.prepare import prepare
from src_models.progress import Progress, finish
from src_models.weights.card import Label
from src_models.weights.store import load
from tests.src_models.kernels.networks import seeded, small
from tests.src_models.weights.models import card_for, small_network

QUICK = KernelAnalysisParameters(n=16, null_draws=100, cluster_draws=0, threads=1)
RANDOM = np.random.default_rng(0)
SIZES = [(3, 3), (3, 3, 3)]


def _kernels(size: tuple[int, ...], count: int = 20) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, int(np.prod(size))))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SPANS)
def test_projections_are_projections(size: tuple[int, ...], name: str) -> None:
    flat = _kernels(size)
    onto, without = (applied(flat, size, Operation(kind=kind, detail=name), RANDOM) for kind in ("onto", "without"))
    assert np.abs(onto + without - flat).max() < 1e-12
    assert np.abs(applied(onto, size, Operation(kind="onto", detail=name), RANDOM) - onto).max() < 1e-12
    assert np.abs((onto * without).sum(axis=1)).max() < 1e-10
    basis = span(name, size)
    assert np.abs(basis @ basis.T - np.eye(len(basis))).max() < 1e-12


@pytest.mark.parametrize("size", SIZES)
def test_operations_do_what_they_say(size: tuple[int, ...]) -> None:
    flat = _kernels(size)
    zero_mean = applied(flat, size, Operation(kind="onto", detail="mean-zero"), RANDOM)
    assert np.abs(zero_mean.sum(axis=1)).max() < 1e-12
    degrees = ",".join(str(k) for k in range(1, 2 * len(size) + 1))
    no_sum = applied(flat, size, Operation(kind="moments", detail=degrees), RANDOM)
    changed = np.abs(no_sum - flat) > 1e-12
    assert changed.sum(axis=1).max() == 1, "dropping m_0 changes the centre alone"
    assert changed[:, flat.shape[1] // 2].all()
    first = applied(flat, size, Operation(kind="moments", detail="1"), RANDOM)[0].reshape(size)
    kept = moments(first)
    degree = np.indices(size).sum(axis=0)
    assert np.abs(kept[degree != 1]).max() < 1e-12
    assert kept[degree == 1] == pytest.approx(moments(flat[0].reshape(size))[degree == 1])
    for kind in ("shuffle", "noise"):
        found = applied(flat, size, Operation(kind=kind), np.random.default_rng(2))  # type: ignore[arg-type]
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.linalg.norm(flat, axis=1))
        assert np.abs(found - flat).max() > 0.1
    template = applied(flat, size, Operation(kind="template"), RANDOM)
    assert ((template - flat) * template).sum(axis=1) == pytest.approx(np.zeros(20), abs=1e-10)
    half = applied(flat, size, Operation(kind="zero", strength=0.5), RANDOM)
    assert half == pytest.approx(flat / 2)
    same = applied(flat, size, Operation(kind="onto", detail="first", keep_norm=True), RANDOM)
    assert np.linalg.norm(same, axis=1) == pytest.approx(np.linalg.norm(flat, axis=1))


@pytest.mark.parametrize("text", ["", "zer", "onto", "onto:nothing", "moments:x", "template:paper-7"])
def test_operations_that_do_not_exist_are_told(text: str) -> None:
    with pytest.raises(InputError, match="no operation"):
        Operation.parse(text)


def test_degrees_that_a_kernel_does_not_have_are_refused() -> None:
    flat = RANDOM.standard_normal((2, 9))
    assert applied(flat, (3, 3), Operation.parse("moments:4"), RANDOM).any()
    with pytest.raises(InputError, match=r"no moments of degree 5.*0 to 4"):
        applied(flat, (3, 3), Operation.parse("moments:1,5"), RANDOM)


def _state(network: nn.Module) -> list[bytes]:
    return [value.detach().numpy().tobytes() for value in network.state_dict().values()]


def _layers(network: nn.Module) -> tuple[Layer, ...]:
    from src_models.kernels.collect import collect_module

    return collect_module(network).layers


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.ConvTranspose3d(2, 3, 3),
        nn.Conv3d(2, 3, (1, 3, 3)),
    ],
)
def test_kernels_are_changed_where_they_were_read_and_put_back_bit_by_bit(module: nn.Module) -> None:
    network = seeded(nn.Sequential(module))
    before = _state(network)
    (layer,) = _layers(network)
    rows = np.array([1, 3])
    new = np.zeros((2, layer.flat.shape[1]))
    with modified(network, [(layer, rows, new)]):
        (changed,) = _layers(network)
        assert not changed.flat[rows].any()
        others = np.setdiff1d(np.arange(layer.count), rows)
        assert np.array_equal(changed.flat[others], layer.flat[others])
    assert _state(network) == before
    with modified(network, [(layer, rows, layer.flat[rows])]):
        assert _state(network) == before, "putting in what is there changes no bit"
    with pytest.raises(RuntimeError, match="inside"), modified(network, [(layer, rows, new)]):
        raise RuntimeError("inside")
    assert _state(network) == before


def _wide() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(1, 40, 3, padding=1, bias=False))
    return seeded(network)


def _analysed(network: nn.Module) -> KernelReport:
    return finish(analyse(network, QUICK))


class _Planted:
    """Scores the norm of the kernels that matter; every patient sees a little more or less of it."""

    def __init__(self, matters: np.ndarray) -> None:
        self.matters = matters

    def __call__(self, network: Any) -> Generator[Progress, None, Mapping[str, float]]:
        yield Progress(phase="score")
        norms = network[0].weight.detach().flatten(1).norm(dim=1).numpy()
        value = float(norms[self.matters].sum() / 100)
        return {f"p{k}": value * (1 + 0.01 * k) for k in range(6)}


def test_a_planted_effect_is_found_and_controls_miss_it() -> None:
    network = _wide()
    report = _analysed(network)
    matters = np.array([3, 8, 21, 30])
    before = _state(network)
    selections = [Selection(rows=tuple(matters.tolist())), Selection(rows=(0, 1, 2, 4))]
    found = finish(knock_out(network, report, selections, _Planted(matters), draws=39, doses=(0.5, 1.0)))
    assert _state(network) == before
    strong, none = found
    assert strong.p == pytest.approx(1 / 40)
    assert strong.p_spared == 1
    assert strong.excess_high < 0
    assert strong.kernels == 4
    assert none.change == 0
    assert none.p > 0.5
    assert strong.doses[0][1] == pytest.approx(strong.change / 2, rel=1e-5)
    assert strong.doses[1][1] == strong.change
    assert strong.low <= strong.change <= strong.high < 0
    again = finish(knock_out(network, report, selections, _Planted(matters), draws=39, doses=(0.5, 1.0)))
    assert again == found
    lines = effects_csv(found).decode().splitlines()
    assert len(lines) == 3
    assert "beyond random" in effects_section(found, "Dice")


def test_without_an_effect_p_values_are_those_of_chance() -> None:
    """Random selections of random kernels: p is uniform, so few of 60 fall below 0.1."""
    network = _wide()
    report = _analysed(network)
    random = np.random.default_rng(5)
    picks = [Selection(rows=tuple(np.sort(random.choice(40, 4, replace=False)).tolist())) for _ in range(60)]
    found = finish(knock_out(network, report, picks, _Planted(np.arange(40)), draws=19, seed=3))
    low = sum(effect.p <= 0.1 for effect in found)
    assert low <= 14
    assert 0.3 < np.mean([effect.p for effect in found]) < 0.7


def test_a_stopped_or_failed_experiment_leaves_the_network_as_it_was() -> None:
    network = _wide()
    report, before = _analysed(network), _state(network)
    work = knock_out(network, report, [Selection(rows=(1, 2))], _Planted(np.arange(40)))
    for number, _ in enumerate(work):
        if number == 3:
            work.close()
    assert _state(network) == before

    def failing(_: Any) -> Generator[Progress, None, Mapping[str, float]]:
        yield Progress(phase="score")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        finish(knock_out(network, report, [Selection(rows=(1, 2))], failing))
    assert _state(network) == before
    with pytest.raises(InputError, match="without controls"):
        finish(knock_out(network, report, [Selection(rows=(1,))], failing, draws=0))


def test_controls_have_the_layers_and_norms_of_the_selection() -> None:
    report = _analysed(small())
    rows = select(report, Selection(layer=("3",), rows=()))
    assert len(rows) == 24
    some = rows[:7]
    drawn = controls(report, some, np.random.default_rng(0))
    assert len(drawn) == 7
    assert np.isin(drawn, rows).all()
    norm = report.table.numbers("norm")
    edges = np.quantile(norm[rows], np.linspace(0, 1, 11)[1:-1])
    assert np.array_equal(np.sort(np.digitize(norm[drawn], edges)), np.sort(np.digitize(norm[some], edges)))


def test_selections_are_read_and_wrong_ones_are_told() -> None:
    report = _analysed(small())
    labels = report.table.words("label")
    found = select(report, Selection.parse("label=laplacian,edge; layer=3"))
    assert set(labels[found]) <= {"laplacian", "edge"}
    assert (found >= 6).all()
    first = select(report, Selection.parse("order=1"))
    assert (report.table.numbers("order_p")[first] == 1).all()
    assert select(report, Selection.parse("order=0,1,2,3,4")).size == 30
    for text in ("labels", "label=", "label=curl", "layer=nothing*", "rows=900", "order=x", "order=9"):
        with pytest.raises(InputError):
            select(report, Selection.parse(text))


def test_cases_are_scored_per_patient_and_without_reference_by_agreement() -> None:
    model = load("unet-liver-2d")
    random = np.random.default_rng(0)
    images = [random.uniform(0, 255, (1, 40, 48)).astype(np.float32) for _ in range(3)]
    labels = np.zeros((40, 48), np.int16)
    labels[10:30, 10:30] = 1
    cases = [EvaluationCase(f"s{k}", f"p{k // 2}", image, (1, 1), labels, "px") for k, image in enumerate(images)]
    scores = finish(Evaluation(model.card, cases).run(model.network))
    assert list(scores) == ["p0", "p1"]
    assert all(0 <= score <= 1 for score in scores.values())
    alone = [EvaluationCase("a", "a", images[0], (1, 1), None, "px")]
    agreement = Evaluation(model.card, alone)
    assert agreement.agreement
    assert finish(agreement.run(model.network)) == {"a": 1.0}
    with pytest.raises(InputError, match="no case"):
        Evaluation(model.card, [])


# -- drift


def test_drift_of_known_changes() -> None:
    start = _kernels((3, 3), 4)
    moved = np.stack([start[0], 2 * start[1], -start[2], np.zeros(9)])
    found = drift(moved, start, (3, 3))
    assert found.relative == pytest.approx([0, 1, 2, 1])
    assert found.turn[:3] == pytest.approx([0, 0, 2], abs=1e-12)
    assert found.scale == pytest.approx([1, 2, -1, 0])
    assert np.isnan(found.turn[3])
    lines = [json.loads(line) for line in json_lines("rho", 3, found).splitlines()]
    assert [line["kernel"] for line in lines] == [0, 1, 2, 3]
    assert lines[3]["turn"] is None
    orders = [np.array([1, 1], np.int8), np.array([1, 0], np.int8), np.array([1, 0], np.int8)]
    assert first_change(orders).tolist() == [-1, 1]
    with pytest.raises(InputError, match="not those of the start"):
        drift(start, start[:2], (3, 3))


def test_two_states_of_one_network_are_compared_and_other_networks_are_refused() -> None:
    one, other = _analysed(small()), _analysed(seeded(small(), 1))
    found = compare(one, other)
    assert [len(each) for each in found.drifts] == [6, 24]
    assert comparison_csv(found).decode().count("\n") == 31
    assert all(np.abs(each.relative).max() == 0 for each in compare(one, one).drifts)
    with pytest.raises(InputError, match="not of one architecture"):
        compare(one, _analysed(_wide()))


# -- distances, doses, and statistics of norms


def _ball(shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    made = np.zeros(shape, np.int16)
    made[(slice(low, high),) * len(shape)] = 1
    return made


class _Thresholded(nn.Module):
    """Segments what is above a threshold: the sum of a 3 x 3 kernel whose centre is 1."""

    ndim, num_classes, in_channels, stride = 2, 1, 1, (1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, 1, 1] = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) - 0.5


def _plain_card() -> Any:
    channel = Channel(name="CT", normalisation="nonorm")
    label = Label(name="ball", value=1, channel=0)
    return card_for(
        small_network(),
        head="sigmoid",
        labels=(label,),
        patch=(32, 32),
        preprocessing=Preprocessing(channels=(channel,), unit="mm"),
    )


def test_distances_stand_beside_dice_in_mm_and_per_case() -> None:
    """A kernel moved by one voxel moves every surface by the spacing of that axis; a removed one leaves none."""
    network = _Thresholded()
    spacing = (2.0, 0.5)
    cases = []
    for k in range(3):
        labels = _ball((32, 32), 8 + k, 20 + k)
        cases.append(EvaluationCase(f"c{k}", f"p{k // 2}", labels[None] + np.float32(0.1), spacing, labels))
    evaluation = Evaluation(_plain_card(), cases, distances=True)
    before = finish(evaluation.run(network))
    assert before == {"p0": 1.0, "p1": 1.0}
    assert before.distance == {"p0": 0.0, "p1": 0.0}
    with torch.no_grad():
        network.conv.weight.copy_(network.conv.weight.roll(1, 2))
    moved = finish(evaluation.run(network))
    expected = measure(
        Comparison.of(np.roll(_ball((32, 32), 8, 20), -1, 0), _ball((32, 32), 8, 20), spacing), ("assd",)
    )
    assert moved.cases[0].distance == pytest.approx(expected["assd"].value)
    assert 0 < moved.cases[0].distance < 2.0
    assert moved.unit == "mm"
    with torch.no_grad():
        network.conv.weight.zero_()
    gone = finish(evaluation.run(network))
    assert gone == {"p0": 0.0, "p1": 0.0}
    assert np.isnan(list(gone.distance.values())).all()
    assert [case.lost for case in gone.cases] == [1, 1, 1]


def test_the_knock_out_tells_distances_cases_and_doses() -> None:
    network = _Thresholded()
    report = _analysed(network)
    labels = _ball((32, 32), 8, 20)
    image = labels[None].astype(np.float32)
    # a brighter rim is kept when the kernel is weakened: Dice and distance change in steps
    image[:, 12:16, 12:16] = 4.0
    cases = [EvaluationCase(f"c{k}", f"p{k}", image, (1.0, 2.0), labels) for k in range(2)]
    evaluation = Evaluation(_plain_card(), cases, distances=True)
    select_all = [Selection(rows=(0,))]
    (found,) = finish(knock_out(network, report, select_all, evaluation.run, draws=2, doses=(0, 0.5, 0.75, 1.0)))
    assert [dose.strength for dose in found.doses] == [0, 0.5, 0.75, 1]
    assert found.doses[0].change == 0
    assert found.doses[2].change < found.doses[0].change
    assert found.doses[3].change == found.change == -1
    assert found.doses[0].distance == 0
    assert found.doses[2].distance is not None
    assert found.doses[2].distance > 1
    far = found.distance
    assert far is not None
    assert (far.lost_before, far.lost_after) == (0, 2)
    assert np.isnan(far.change)
    assert np.isnan(far.p), "nothing measured is no effect"
    assert [case.before for case in found.cases] == [1.0, 1.0]
    rows = list(csv.DictReader(cases_csv([found]).decode().splitlines()))
    assert [row["case"] for row in rows] == ["c0", "c1"]
    assert rows[0]["distance_before"] == "0"
    assert rows[0]["distance_after"] == ""
    told = json.loads(effects_json([found], "dice", {"seed": 0}))
    assert told["effects"][0]["distance"]["change"] is None
    assert told["effects"][0]["doses"][3][1] == -1
    page = effects_page("a <b>", [found], "Dice", draw_effects([found], "Dice"))
    assert "a &lt;b&gt;" in page
    assert "Dose curve" in page
    assert "Distance of the surfaces" in page
    assert draw_effects([found], "Dice") == draw_effects([found], "Dice")


def test_harm_is_a_smaller_score_and_a_larger_distance() -> None:
    """The same numbers with the other sign give the same p; patients without a number are left out."""
    before = {"a": 1.0, "b": 2.0, "c": 3.0, "d": float("nan")}
    after = {name: value - 0.5 for name, value in before.items()}
    others = [{name: value - 0.1 * k for name, value in before.items()} for k in range(4)]
    score = paired(before, after, others)
    assert score["p"] == pytest.approx(1 / 5)
    assert score["p_spared"] == 1
    assert score["change"] == pytest.approx(-0.5)
    assert score["excess"] == pytest.approx(-0.5 + 0.15)
    turned = [{name: -value for name, value in each.items()} for each in (before, after, *others)]
    distance = paired(turned[0], turned[1], turned[2:], larger_is_better=False)
    assert distance["p"] == score["p"]
    assert distance["p_spared"] == score["p_spared"]
    assert distance["change"] == pytest.approx(0.5)
    assert paired(turned[0], turned[1], turned[2:])["p"] == 1
    lost = [*others, dict.fromkeys(before, float("nan"))]
    assert paired(before, after, lost)["p"] == pytest.approx(2 / 6), "what left nothing to measure harmed the most"


def test_a_planted_distance_is_harm_as_a_planted_score_is() -> None:
    network = _wide()
    planted = _Planted(np.array([3, 8, 21, 30]))

    def evaluate(changed: Any) -> Generator[Progress, None, PatientScores]:
        scores = yield from planted(changed)
        return PatientScores([], dict(scores), {patient: 2 - 3 * score for patient, score in scores.items()}, "mm")

    rows = [Selection(rows=(3, 8, 21, 30))]
    (found,) = finish(knock_out(network, _analysed(network), rows, evaluate, draws=19))
    assert found.distance is not None
    assert found.distance.p == found.p == pytest.approx(1 / 20)
    assert found.distance.change == pytest.approx(-3 * found.change)
    assert found.distance.excess_low > 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_statistics_are_those_of_all_that_is_met_and_come_back(ndim: int) -> None:
    """The first norm gets mean and variance of everything before it; the weights' own statistics return bit by bit."""
    network = small(ndim)
    network.eval()
    random = torch.Generator().manual_seed(1)
    images = [3 + torch.randn((1, 1, *(8 + 4 * k,) * ndim), generator=random) for k in range(3)]
    before, first = _buffers(network), network[0]
    with restored(network):
        steps = renormalise(network, [partial(network, image) for image in images])
        assert finish_plain(steps) == 1
        with torch.no_grad():
            met = torch.cat([first(image).transpose(0, 1).flatten(1) for image in images], 1).double()
        norm: Any = network[1]
        assert norm.running_mean.double() == pytest.approx(met.mean(1), abs=1e-5)
        assert norm.running_var.double() == pytest.approx(met.var(1), rel=1e-5)
        assert not norm.training
        assert norm.track_running_stats
        assert _buffers(network) != before
    assert _buffers(network) == before
    with pytest.raises(InputError, match="no batch norm"):
        finish_plain(renormalise(nn.Sequential(nn.Conv2d(1, 1, 3), nn.InstanceNorm2d(1)), []))


def test_a_scaled_kernel_does_nothing_once_the_norms_are_measured_anew() -> None:
    """Halving a layer before a batch norm changes the result; with new statistics it does not."""
    network = small_network(norm="batch")
    for _, norm in tracked(network):
        # without offsets the sign of the result would not depend on the scale at all
        seeded(norm)
    random = np.random.default_rng(0)
    image = random.uniform(0, 200, (1, 32, 32)).astype(np.float32)
    case = EvaluationCase("a", "a", image, (1, 1), None, "px")
    with torch.no_grad():
        # half of the image is found, so that a change is seen
        logits = network.eval()(torch.from_numpy(prepare(image, (1, 1), card_for(network).preprocessing).array)[None])
        network.head.bias[1] -= (logits[0, 1] - logits[0, 0]).median()
    half = Operation(kind="zero", strength=0.5)
    report = _analysed(network)
    rows = Selection(layer=(report.layers[0].layer.name,))
    scores, state = {}, _state(network)
    buffers = _buffers(network)
    for anew in (False, True):
        evaluation = Evaluation(card_for(network, patch=(32, 32)), [case], renormalise=anew)
        (found,) = finish(knock_out(network, report, [rows], evaluation.run, half, draws=1))
        scores[anew] = found.after["a"]
    assert scores[True] > 0.995
    assert scores[False] < 0.99
    assert _state(network) == state
    assert _buffers(network) == buffers
    evaluation = Evaluation(card_for(network, patch=(32, 32)), [case], renormalise=True)
    work = evaluation.run(network)
    for step in work:
        if step.phase == "renormalise":
            work.close()
    assert _buffers(network) == buffers


def _buffers(network: nn.Module) -> list[bytes]:
    return [buffer.numpy().tobytes() for buffer in network.buffers()]


def finish_plain(steps: Generator[None, None, int]) -> int:
    """The result of a generator that yields nothing."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return int(end.value)
