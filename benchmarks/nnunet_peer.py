"""nnU-Net's own predictor, array in and labels out, in the Python that has nnunetv2: started by `prediction.py`.

Each line on standard input is one run; each answer is one line: seconds, and seconds of processor. Labels go to a file.
``run`` is nnU-Net as it is; ``single`` the same with its sums and weights in float32 in place of float16.

    python nnunet_peer.py FOLDER THREADS STEP
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path


def main() -> None:
    """Load once, then answer every line."""
    folder, threads, step = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints must not stand between the answers
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder)
    os.environ["nnUNet_def_n_proc"] = str(threads)  # noqa: SIM112 (its own name)
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(threads)
    plans = PlansManager(json.loads((folder / "plans.json").read_text()))
    configuration = plans.get_configuration("3d_fullres")
    dataset = json.loads((folder / "dataset.json").read_text())
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(dataset["labels"]),
        deep_supervision=False,
    )
    weights = torch.load(folder / "weights.pt", weights_only=True)
    missing, left = network.load_state_dict(weights, strict=False)
    assert not left
    assert all("all_modules" in key or "decoder.encoder" in key for key in missing), missing
    predictor = nnUNetPredictor(
        tile_step_size=step,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(network, plans, configuration, [network.state_dict()], dataset, "none", None)
    image = np.load(folder / "image.npy")
    properties = {"spacing": json.loads((folder / "spacing.json").read_text())}
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        sums = single_sums if line.strip() == "single" else nullcontext
        began, busy = time.perf_counter(), time.process_time()
        with sums():
            labels = predictor.predict_single_npy_array(image.copy(), dict(properties))
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        np.save(folder / "labels.npy", labels)
        answers.write(f"{seconds} {busy}\n")
        answers.flush()


@contextmanager
def single_sums() -> Iterator[None]:
    """Sums and weights of windows in float32; nnU-Net has no switch for it."""
    import torch
    from nnunetv2.inference import predict_from_raw_data as theirs

    half, weights = torch.half, theirs.compute_gaussian
    torch.half = torch.float32
    theirs.compute_gaussian = lambda *a, **k: weights.__wrapped__(*a, **(k | {"dtype": torch.float32}))
    try:
        yield
    finally:
        torch.half, theirs.compute_gaussian = half, weights


if __name__ == "__main__":
    main()
