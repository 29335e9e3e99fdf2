"""Makes `tests/data/prepared.npz`: small scans, preprocessed and brought back by nnunetv2 itself.

    python tests/peers/make_prepared.py tests/data/prepared.npz

It needs an environment of its own with nnunetv2 2.8.1. The scans are those of `tests/scans.py`; only results are kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.scans import PREPARED, scan  # the script runs alone

SCHEMES = {"zscore": "ZScoreNormalization", "ct": "CTNormalization"}
RESAMPLING = "resample_data_or_seg_to_shape"


def main(out: Path) -> None:
    """Write one file with all results."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    results = {}
    for name, one in PREPARED.items():
        image, labels = scan(one)
        order = list(one.axis_order)
        shared = {"order_z": 0, "force_separate_z": None}
        configuration = {
            "spacing": [one.target[axis] for axis in order] if len(one.target) == 3 else list(one.target),
            "normalization_schemes": [SCHEMES[kind] for kind in one.kinds],
            "use_mask_for_norm": [one.masked and kind == "zscore" for kind in one.kinds],
            "resampling_fn_data": RESAMPLING,
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **shared},
            "resampling_fn_seg": RESAMPLING,
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **shared},
            "resampling_fn_probabilities": RESAMPLING,
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **shared},
            "architecture": {},
        }
        statistics = {"mean": 40.0, "std": 25.0, "percentile_00_5": -20.0, "percentile_99_5": 110.0}
        plans = PlansManager(
            {
                "transpose_forward": order,
                "transpose_backward": [order.index(axis) for axis in range(3)],
                "configurations": {"it": configuration},
                "foreground_intensity_properties_per_channel": {str(c): statistics for c in range(len(one.kinds))},
                "label_manager": "LabelManager",
            }
        )
        manager = plans.get_configuration("it")
        content = {"labels": {"background": 0, "one": 1, "two": 2}, "channel_names": {"0": "MRI"}}
        data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            image, labels[None].astype(np.int16), {"spacing": list(one.spacing)}, plans, manager, content
        )
        results[f"{name}.image"] = np.asarray(data, np.float32)
        results[f"{name}.labels"] = np.asarray(seg[0], np.int8)
        own = [one.spacing[axis] for axis in order]
        network = list(manager.spacing) if len(manager.spacing) == 3 else [own[0], *manager.spacing]
        back = manager.resampling_fn_probabilities(
            data[:1], properties["shape_after_cropping_and_before_resampling"], network, own
        )
        results[f"{name}.back"] = np.asarray(back, np.float32)
    np.savez_compressed(out, **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
