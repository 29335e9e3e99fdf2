"""Numbers that compare a segmentation with a reference, each with its formula; spacing is always asked for."""

from src_models.metrics.comparison import Comparison, Empties, Unit, pool
from src_models.metrics.formulas import FORMULAS, Formula, Measurement, measure
from src_models.metrics.table import Row, Score, Table, summarise

__all__ = [
    "FORMULAS",
    "Comparison",
    "Empties",
    "Formula",
    "Measurement",
    "Row",
    "Score",
    "Table",
    "Unit",
    "measure",
    "pool",
    "summarise",
]
