"""Metrics of a real submission: ours beside MONAI's from the same run, and the scores that were published for it.

The CHAOS sample (CT set 3) is not shipped; its folder is named.

    python benchmarks/metrics_agreement.py [--data FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from src_models.files import read_segmentation  # noqa: E402
from src_models.metrics import Comparison, measure  # noqa: E402

PUBLISHED = {"dice": 0.978, "rel_volume_diff": 0.00665, "assd": 0.734, "hd": 14.0}
"""By the challenge's own program; its surface is another one, so its ASSD is too."""


def main() -> None:
    """Read the arguments, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="The folder of the data sets."
    )
    folder = parser.parse_args().data / "chaos_ct"
    if not folder.is_dir():
        print(f"{folder} is not there; name the folder of the data sets with --data.")
        return
    prediction = read_segmentation(folder / "chaos_ct3_sample_submission.nii.gz")
    reference = read_segmentation(folder / "chaos_ct3_liver.nii.gz")
    spacing = reference.grid.spacing
    names = ["dice", "jaccard", "rel_volume_diff", "assd", "hd", "hd95", "nsd"]
    began = time.perf_counter()
    ours = measure(Comparison.of(prediction.labels, reference.labels, spacing), names, nsd_tolerance=2.0)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    theirs = by_monai(prediction.labels > 0, reference.labels > 0, spacing)
    monai_seconds = time.perf_counter() - began
    print("| metric | ours | MONAI | published |\n| --- | ---: | ---: | ---: |")
    for name in names:
        cells = [f"{ours[name].value:.4f}", f"{theirs[name]:.4f}" if name in theirs else "-"]
        print(f"| {name} {ours[name].unit} | {' | '.join(cells)} | {PUBLISHED.get(name, '-')} |")
    print(f"| seconds | {seconds:.1f} | {monai_seconds:.1f} | - |")


def by_monai(prediction: object, reference: object, spacing: tuple[float, ...]) -> dict[str, float]:
    """The same, where MONAI defines the same."""
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai import metrics

        p, r = (torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (prediction, reference))
        options = {"include_background": False, "spacing": list(spacing)}
        return {
            "dice": float(metrics.compute_dice(p, r, include_background=False)),
            "jaccard": float(metrics.compute_iou(p, r, include_background=False)),
            "assd": float(metrics.compute_average_surface_distance(p, r, symmetric=True, **options)),
            "hd": float(metrics.compute_hausdorff_distance(p, r, **options)),
            "hd95": float(metrics.compute_hausdorff_distance(p, r, percentile=95, **options)),
            "nsd": float(metrics.compute_surface_dice(p, r, [2.0], **options)),
        }


if __name__ == "__main__":
    main()
