"""What the kernels of a trained network are: stencils, smoothing, noise; each count beside what chance gives.

`analyse` is the one entry. It takes a torch module, a file of weights, a name of the store or a folder of nnU-Net, and
is a generator of progress that returns a `KernelReport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from src_models.kernels.parameters import KernelAnalysisParameters

if TYPE_CHECKING:
    from src_models.kernels.analysis import analyse
    from src_models.kernels.result import AnalysisProgress, KernelReport, KernelTable, LayerReport

__all__ = ["AnalysisProgress", "KernelAnalysisParameters", "KernelReport", "KernelTable", "LayerReport", "analyse"]


def __getattr__(name: str) -> Any:
    """Load the analysis, and torch with it, only when it is asked for."""
    if name == "analyse":
        from src_models.kernels import analysis

        return analysis.analyse
    if name in __all__:
        from src_models.kernels import result

        return getattr(result, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
