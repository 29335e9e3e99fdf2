"""Prediction on a processor, array in and labels out: ours, nnU-Net's predictor, and MONAI's sliding window.

One interleaved run: same weights, fp32, same step, no mirroring, equal threads. nnunetv2 lives in an environment of its
own, whose Python is named on the command line; without it that row is left out.

    python benchmarks/prediction.py --nnunet-python VENV/bin/python [--image CT.nii.gz] [--write]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.files import read_volume  # noqa: E402
from src_models.inference.parameters import PredictionParameters  # noqa: E402
from src_models.inference.predict import predict  # noqa: E402
from src_models.networks.zoo import build  # noqa: E402
from src_models.preprocessing.parameters import Channel, ChannelStatistics, Preprocessing  # noqa: E402
from src_models.preprocessing.prepare import prepare  # noqa: E402
from src_models.progress import finish  # noqa: E402
from src_models.weights.card import Label, ModelCard  # noqa: E402
from src_models.weights.model import Model  # noqa: E402

RESULTS = ROOT / "docs" / "prediction_speed.md"
_SCHEMES = {"ct": "CTNormalization", "zscore": "ZScoreNormalization"}
BORDER = 8
"""Voxels of the image from its border within which differing labels are counted."""
LOW, HIGH, MEAN, STD = -200.0, 300.0, 40.0, 110.0


@dataclass(frozen=True)
class Case:
    """An image, a model and how it is applied."""

    image: NDArray[Any]
    spacing: tuple[float, ...]
    model: Model
    step: float


class Run(NamedTuple):
    """One prediction: seconds on the clock, seconds of processor, labels."""

    seconds: float
    busy: float
    labels: NDArray[Any]


def main() -> None:
    """Run what the command line asks for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet-python", help="Python of the environment that has nnunetv2.")
    parser.add_argument("--image", type=Path, help="A CT. Default: the sample CT, interpolated to 512 x 512.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--coarser", type=float, default=3.0, help="Voxels of the network over those of the image.")
    parser.add_argument("--features", default="32,64,128,256,320", help="Of nnU-Net's stages.")
    parser.add_argument("--patch", default="32,96,96")
    parser.add_argument("--step", type=float, default=0.5)
    parser.add_argument("--training", type=int, default=200, help="Steps that give labels structure before timing.")
    parser.add_argument("--write", action="store_true", help=f"Write {RESULTS.name}.")
    parser.add_argument(
        "--sizes", action="store_true", help="Only: 2, 8 and 32 classes, small and large, beside MONAI."
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.sizes:
        print(sizes(arguments.repeats, arguments.step))
        return
    case = made(arguments)
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[], Run]] = {
            "napari-lsnet": lambda: ours(case),
            "MONAI sliding window + resize + argmax": lambda: monai(case),
        }
        if arguments.nnunet_python:
            peer = NNUNet(case, Path(folder), arguments.nnunet_python, arguments.threads)
            runs["nnU-Net predictor"] = peer.run
        done: dict[str, list[Run]] = {name: [] for name in runs}
        agreement: list[str] = []
        for repeat in range(arguments.repeats + 1):
            for name, run in runs.items():
                one = run()
                if repeat:  # the first round compiles and fills caches
                    done[name].append(one)
                said = f"round {repeat}: {name} {one.seconds:.2f} s, {one.busy:.2f} s of processor"
                print(said, file=sys.stderr, flush=True)
                if arguments.write and all(done.values()):
                    RESULTS.write_text(report(case, arguments, done), encoding="utf-8")
        if arguments.nnunet_python:
            agreement = why_labels_differ(peer, done) + trained_agreement(arguments)
            peer.close()
    text = report(case, arguments, done, agreement)
    print(text)
    if arguments.write:
        RESULTS.write_text(text, encoding="utf-8")


def made(arguments: argparse.Namespace) -> Case:
    """The image, and a network that was trained a moment to tell ranges of its grey values apart."""
    source = arguments.image or ROOT / "sample_data" / "liver_ct" / "liver_ct.nii.gz"
    volume = read_volume(source)
    image, spacing = volume.array.astype(np.float32), volume.grid.spacing
    if arguments.image is None:
        from scipy.ndimage import zoom

        # a slab of 48 slices of 3 mm becomes 96 of 1.5 mm, in the usual 512 x 512
        image = image[30:78]
        factors = (2.0, 512 / image.shape[1], 512 / image.shape[2])
        image = zoom(image, factors, order=1, mode="nearest", grid_mode=True)
        spacing = tuple(h / f for h, f in zip(spacing, factors, strict=True))
    features = tuple(int(n) for n in arguments.features.split(","))
    patch = tuple(int(n) for n in arguments.patch.split(","))
    torch.manual_seed(0)
    network = build(
        "nnunet",
        1,
        arguments.classes,
        3,
        features_per_stage=features,
        strides=tuple((1,) * 3 if k == 0 else (2,) * 3 for k in range(len(features))),
        kernel_sizes=((3, 3, 3),) * len(features),
        n_conv_per_stage=(2,) * len(features),
        n_conv_per_stage_decoder=(2,) * (len(features) - 1),
        deep_supervision=True,
    )
    statistics_ = ChannelStatistics(
        mean=MEAN, median=MEAN, std=STD, minimum=-1024, maximum=2000, percentile_00_5=LOW, percentile_99_5=HIGH
    )
    card = ModelCard(
        name="bench",
        network=network.config,
        ndim=3,
        modality="CT",
        preprocessing=Preprocessing(
            channels=(Channel(name="CT", normalisation="ct", statistics=statistics_),),
            spacing=tuple(h * arguments.coarser for h in spacing),
        ),
        patch=patch,
        labels=tuple(Label(name=f"c{k}", value=k, channel=k) for k in range(arguments.classes)),
    )
    model = Model(network, card)
    train_a_moment(model, image, spacing, arguments.training)
    network.eval()
    return Case(image, tuple(spacing), model, arguments.step)


def train_a_moment(model: Model, image: NDArray[Any], spacing: Any, steps: int) -> None:
    """Classes are ranges of the smoothed image: labels then have borders, as those of a real model."""
    from scipy.ndimage import gaussian_filter

    prepared = prepare(image[None], spacing, model.card.preprocessing).array[0]
    smooth = gaussian_filter(prepared, 1.5)
    cuts = np.quantile(smooth, np.linspace(0, 1, len(model.card.labels) + 1)[1:-1])
    classes = np.digitize(smooth, cuts)
    generator = np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.network.parameters(), 1e-3)
    size = [min(32, n) for n in prepared.shape]
    for _ in range(steps):
        start = [int(generator.integers(0, n - s + 1)) for n, s in zip(prepared.shape, size, strict=True)]
        box = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        logits = model.network(torch.from_numpy(prepared[box])[None, None])
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(classes[box])[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def sizes(repeats: int, step: float) -> str:
    """Small and large images, few and many classes, beside MONAI; a light network, so that the rest shows."""
    lines = ["| image | classes | ours, s | MONAI, s | ours is faster by |", "| --- | --- | --- | --- | --- |"]
    for shape in ((48, 64, 64), (96, 256, 256)):
        image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for classes in (2, 8, 32):
            torch.manual_seed(0)
            network = build("unet", 1, classes, 3, base_width=4, depth=2).eval()
            card = ModelCard(
                name="sizes",
                network=network.config,
                ndim=3,
                preprocessing=Preprocessing(spacing=(2.0, 2.0, 2.0)),
                patch=(32, 48, 48),
                labels=tuple(Label(name=f"c{k}", value=k, channel=k) for k in range(classes)),
            )
            case = Case(image, (1.0, 1.0, 1.0), Model(network, card), step)
            rounds = [(ours(case).seconds, monai(case).seconds) for _ in range(repeats + 1)][1:]
            mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
            size = " x ".join(str(n) for n in shape)
            lines.append(f"| {size} | {classes} | {mine:.3f} | {theirs:.3f} | {theirs / mine:.2f} x |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def ours(case: Case) -> Run:
    """`predict`, to its labels."""
    began, busy = time.perf_counter(), time.process_time()
    parameters = PredictionParameters(step=case.step, device="cpu", precision="fp32", skip="none")
    result = finish(predict(case.model, case.image, case.spacing, parameters))
    return Run(time.perf_counter() - began, time.process_time() - busy, result.labels)


def monai(case: Case) -> Run:
    """Our preparation, MONAI's windows, torch's interpolation of all classes, argmax."""
    from monai.inferers import sliding_window_inference

    began, busy = time.perf_counter(), time.process_time()
    card = case.model.card
    prepared = prepare(case.image[None], case.spacing, card.preprocessing)
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(prepared.array)[None],
            card.patch,
            1,
            case.model.network,
            overlap=1 - case.step,
            mode="gaussian",
            sigma_scale=1 / 8,
        )
        fine = torch.nn.functional.interpolate(logits, size=prepared.way.cropped, mode="trilinear")
        labels = fine.argmax(1)[0].to(torch.uint8).numpy()
    whole = np.zeros(case.image.shape, np.uint8)
    whole[prepared.way.box] = labels
    return Run(time.perf_counter() - began, time.process_time() - busy, whole)


class NNUNet:
    """nnU-Net's predictor in its own process, kept between runs as its weights are."""

    def __init__(self, case: Case, folder: Path, python: str, threads: int) -> None:
        self._folder = folder
        np.save(folder / "image.npy", case.image[None])
        (folder / "spacing.json").write_text(json.dumps(list(case.spacing)))
        (folder / "plans.json").write_text(json.dumps(plans(case)))
        classes = {"background": 0} | {f"c{k}": k for k in range(1, len(case.model.card.labels))}
        dataset = {
            "channel_names": {"0": case.model.card.modality},
            "labels": classes,
            "numTraining": 1,
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(dataset))
        torch.save(case.model.network.state_dict(), folder / "weights.pt")
        peer = Path(__file__).with_name("nnunet_peer.py")
        self._process = subprocess.Popen(
            [python, str(peer), str(folder), str(threads), str(case.step)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        self._answer()

    def run(self, how: str = "run") -> Run:
        """One prediction; the time is taken in its process, without start and files. ``single``: sums in float32."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{how}\n")
        self._process.stdin.flush()
        seconds, busy = (float(part) for part in self._answer().split())
        return Run(seconds, busy, np.load(self._folder / "labels.npy"))

    def close(self) -> None:
        """End its process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("nnU-Net's process ended; see above.")
        return line


def plans(case: Case) -> dict[str, Any]:
    """The plan that nnU-Net needs for the same network, grid and normalisation."""
    card, options = case.model.card, case.model.network.config["options"]
    assert card.preprocessing.spacing is not None
    order = card.preprocessing.axis_order or (0, 1, 2)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "bench",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(card.patch),
        "median_image_size_in_voxels": list(card.patch),
        "spacing": [card.preprocessing.spacing[axis] for axis in order],
        "normalization_schemes": [_SCHEMES[card.preprocessing.channels[0].normalisation]],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": len(options["features_per_stage"]),
                "features_per_stage": list(options["features_per_stage"]),
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [list(k) for k in options["kernel_sizes"]],
                "strides": [list(s) for s in options["strides"]],
                "n_conv_per_stage": list(options["n_conv_per_stage"]),
                "n_conv_per_stage_decoder": list(options["n_conv_per_stage_decoder"]),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    measured = card.preprocessing.channels[0].statistics
    assert measured is not None
    short = {"minimum": "min", "maximum": "max"}
    known = {short.get(name, name): value for name, value in measured.model_dump().items()}
    return {
        "dataset_name": "Dataset001_bench",
        "plans_name": "bench",
        "original_median_spacing_after_transp": list(case.spacing),
        "original_median_shape_after_transp": list(case.image.shape),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(order),
        "transpose_backward": [order.index(axis) for axis in range(3)],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": known},
    }


def why_labels_differ(peer: NNUNet, done: dict[str, list[Run]]) -> list[str]:
    """The same nnU-Net with its sums in float32: what is left is what ours does otherwise."""
    ours, stock = done["napari-lsnet"][-1].labels, done["nnU-Net predictor"][-1].labels
    equal, differing = float((peer.run("single").labels == ours).mean()), ours != stock
    inner = differing[tuple(slice(BORDER, n - BORDER) for n in differing.shape)]
    count, near = int(differing.sum()), int(differing.sum()) - int(inner.sum())
    share = 1 - np.prod([1 - 2 * BORDER / n for n in differing.shape])
    return [
        "nnU-Net keeps the sums of its windows and their weights in float16. Towards the border of the image the "
        "weights of all windows are so small that float16 holds few digits of them, and logits are rounded coarsely. "
        f"With both in float32, and nothing else changed in nnU-Net, labels are equal in {equal:.4%} of "
        f"voxels. Of the {count} voxels that differ from it as it is, {near / max(count, 1):.0%} lie within {BORDER} "
        f"voxels of the border, where {share:.0%} of the image are.",
        "",
    ]


def trained_agreement(arguments: argparse.Namespace) -> list[str]:
    """The shipped model of the hippocampus, given to nnU-Net, on the sample scans: weights of a real training."""
    from src_models.weights.store import load

    model = load("nnunet-hippocampus-3d")
    said = []
    for file in sorted((ROOT / "sample_data" / "hippocampus_mr").glob("hippocampus_???.nii.gz")):
        volume = read_volume(file)
        case = Case(volume.array.astype(np.float32), volume.grid.spacing, model, arguments.step)
        labels = ours(case).labels
        with tempfile.TemporaryDirectory() as folder:
            peer = NNUNet(case, Path(folder), arguments.nnunet_python, arguments.threads)
            stock, single = (float((peer.run(how).labels == labels).mean()) for how in ("run", "single"))
            peer.close()
        said.append(f"{stock:.4%} on {file.name.partition('.')[0]} ({single:.4%} with sums in float32)")
    return [f"With the weights of a whole training, {model.card.name}, labels are equal in {' and '.join(said)}.", ""]


def report(case: Case, arguments: argparse.Namespace, done: dict[str, list[Run]], agreement: Sequence[str] = ()) -> str:
    """A page with the table."""
    mine = "napari-lsnet"
    shape = " x ".join(str(n) for n in case.image.shape)
    grid = prepare(case.image[None], case.spacing, case.model.card.preprocessing).way.resampled
    rounds = min(len(runs) for runs in done.values())
    lines = [
        "# Speed of prediction",
        "",
        "Written by `benchmarks/prediction.py`: array in, labels out; same weights, fp32, step "
        f"{case.step:g}, no mirroring, {arguments.threads} thread(s), median of {rounds} interleaved runs.",
        "",
        f"CT of {shape} voxels, {arguments.classes} classes; network nnU-Net plain with features {arguments.features} "
        f"on {' x '.join(str(n) for n in grid)} voxels (voxels {arguments.coarser:g} times larger per axis), "
        f"windows {arguments.patch}.",
        "",
        "| program | seconds, median (lowest to highest) | of processor | ours faster, of processor | equal labels |",
        "| --- | --- | --- | --- | --- |",
    ]
    labels = done[mine][-1].labels
    own = statistics.median(run.seconds for run in done[mine])
    own_busy = statistics.median(run.busy for run in done[mine])
    for name, runs in done.items():
        seconds, busy = [run.seconds for run in runs], statistics.median(run.busy for run in runs)
        middle, same = statistics.median(seconds), float((runs[-1].labels == labels).mean()) if runs else 0.0
        lines.append(
            f"| {name} | {middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | {busy:.2f} "
            f"| {middle / own:.2f} x, {busy / own_busy:.2f} x | {same:.4%} |"
        )
    counts = np.bincount(labels.ravel(), minlength=arguments.classes) / labels.size
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "monai", "numpy"))
    lines += [
        "",
        *agreement,
        f"Shares of the classes: {', '.join(f'{share:.1%}' for share in counts)}. "
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
