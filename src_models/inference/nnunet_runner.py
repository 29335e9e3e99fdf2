"""nnU-Net itself, predicting files: run as a program by the Python that has nnunetv2, and by nothing else.

Each line on standard input is a request (JSON: files of one image, where the labels go, whether probabilities are
wanted); each line of the answer is one event. It imports nothing of this package: that Python need not have it.

    python run_nnunet.py SETTINGS
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Load once, then answer every line."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints must not stand between the answers

    def say(event: str, **content: Any) -> None:
        answers.write(json.dumps({"event": event, **content}) + "\n")
        answers.flush()

    settings = json.loads(sys.argv[1])
    try:
        import nnunetv2  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        say("missing", why=str(error))
        return
    try:
        predictor = load(settings, say)
        for line in sys.stdin:
            answer(predictor, json.loads(line), say)
    except Exception as error:
        # one sentence for the person; the traceback goes to the log beside
        import traceback

        traceback.print_exc()
        memory = isinstance(error, MemoryError) or "out of memory" in str(error).lower()
        say("failed", why=f"{type(error).__name__}: {error}", memory=memory)


def load(settings: dict[str, Any], say: Any) -> Any:
    """The predictor with its folds."""
    from importlib import metadata

    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # type: ignore[import-not-found]

    kind = settings["device"]
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = nnUNetPredictor(
        tile_step_size=settings["step"],
        use_mirroring=settings["mirror"],
        device=torch.device(kind),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(settings["folder"], tuple(settings["folds"]), settings["checkpoint"])
    if predictor.configuration_manager.previous_stage_name is not None:
        raise ValueError("this is the second stage of a cascade, which needs the result of another network")
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1
        say("pass", number=passes)

    predictor.network.register_forward_hook(count)
    say(
        "ready",
        device=kind,
        versions={name: metadata.version(name) for name in ("nnunetv2", "torch", "numpy")},
        threads=torch.get_num_threads(),
    )
    return predictor


def answer(predictor: Any, request: dict[str, Any], say: Any) -> None:
    """Predict the files of one image."""
    began = time.perf_counter()
    predictor.predict_from_files_sequential(
        [request["files"]], [request["out"]], save_probabilities=request["probabilities"], overwrite=True
    )
    say("done", seconds=round(time.perf_counter() - began, 3))


if __name__ == "__main__":
    main()
