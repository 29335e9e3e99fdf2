"""The report for people: one HTML page with the figures inside, each explained in two sentences.

The page stands alone: no scripts, nothing loaded from outside, every text escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

from src_models.kernels.result import KernelReport, LayerReport, Share

EXPLAINED = {
    "components": (
        "The form of the paper's Figure 2",
        "Each dot is a kernel of the layer, placed by the two directions in which its kernels vary most, and coloured "
        "by its cluster; the share of the variance stands in the axes. Red squares are known kernels sent through the "
        "same transform, with the share of their distance that the plane does not show: near 1 means that the square "
        "only looks as if it lay among the dots.",
    ),
    "labels": (
        "Labels, beside chance",
        "The wide bar shows how many kernels of a layer have a spectrum nearest to each known kernel and within the "
        "threshold. The pale bar beside it shows what random kernels get under the same rule: only a difference "
        "between the two says something about the network.",
    ),
    "spectra": (
        "Spectra",
        "The black line is the median of the sorted singular values of a layer's kernels, each divided by its largest, "
        "and the grey band holds 90 % of them. The coloured lines are the known kernels, so a band that follows one of "
        "them consists of kernels that change images as it does.",
    ),
    "pde": (
        "Differential operators, beside chance",
        "Each kernel is read from its moments as the operator that it spells: averaging, sharpening, advection, "
        "diffusion. The pale bar is again what random kernels give, and the reading concerns one kernel alone: it does "
        "not say that the network solves an equation.",
    ),
    "energy": (
        "Energy by degree",
        "The squared entries of each kernel are split by polynomial degree: 0 is averaging, 1 slopes, 2 curvature. "
        "Above the dotted line a layer has more of a degree than random kernels have, below it less.",
    ),
}
MOVED = {
    "comparison": (
        "Change by layer",
        "Points are the median of a layer and bars hold 90 % of its kernels: how far they moved in units of their own "
        "length, and how far they turned. A turn of 1 (dotted) is what unrelated kernels have, and the lowest panel "
        "counts kernels whose order or label is another.",
    ),
    "drift": (
        "Drift by epoch",
        "Each line is a kernel of the level set network, its distance from the finite difference it began as in units "
        "of that difference's length. Lines that stay near 0 are the solver's own kernels still; all panels share one "
        "scale.",
    ),
}
_CHANCE = {
    "gaussian": "{:,} random Gaussian kernels",
    "uniform": "{:,} random uniform kernels",
    "permuted": "{:,} kernels of the same layer with their entries in another order",
    "init": "up to {:,} kernels a layer of the same network before its training, built anew",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%;border:1px solid #ddd}table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid #ddd;padding:2px 8px;text-align:right}td:first-child,th:first-child{text-align:left}
.up{background:#e3f2e1}.down{background:#fbe5e1}.note{color:#666}"""


def page(report: KernelReport, figures: Mapping[str, bytes], extra: Sequence[str] = ()) -> str:
    """The page.

    Parameters
    ----------
    report : KernelReport
        What is told.
    figures : mapping of str to bytes
        PNG by name, as `figures.draw` gives them; may be empty.
    extra : sequence of str
        Further sections, as HTML that is safe already.
    """
    name = escape(str(report.record.inputs.get("model", "model")))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>Kernels of {name}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Kernels of {name}</h1>",
        f"<p>{escape(_opening(report))}</p>",
    ]
    parts += [f"<p class='note'>{escape(note)}</p>" for note in report.notes]
    for key, content in figures.items():
        parts.append(picture(*EXPLAINED.get(key, (key, "")), content))
    parts += ["<h2>What differs from chance</h2>", _enriched(report), "<h2>Layers</h2>", _layers(report)]
    parts += [*extra, _confused(report), _skipped(report)]
    told = report.record.research_use
    parts.append(f"<p class='note'>{escape(told)} Weights {escape(_hash(report))}, seed {report.record.seed}.</p>")
    return "\n".join([*parts, "</body></html>"]) + "\n"


def picture(title: str, text: str, content: bytes) -> str:
    """A figure with its words, as a section."""
    inside = base64.b64encode(content).decode("ascii")
    return (
        f"<h2>{escape(title)}</h2><p>{escape(text)}</p>"
        f"<p><img alt='{escape(title)}' src='data:image/png;base64,{inside}'></p>"
    )


def _hash(report: KernelReport) -> str:
    return str(report.record.inputs.get("weights_sha256", ""))[:16]


def _opening(report: KernelReport) -> str:
    chosen = report.parameters
    dead = sum(each.dead for each in report.layers)
    partly = "" if report.complete else " The analysis was stopped before its end."
    return (
        f"{len(report.table):,} kernels in {len(report.layers)} layers, {dead:,} of them dead, compared with the known "
        f"kernels of {chosen.preset} at a threshold of {chosen.threshold:g} and with "
        f"{_CHANCE[chosen.null].format(chosen.null_draws)}.{partly}"
    )


def _enriched(report: KernelReport) -> str:
    """All layers together: counts are added, each layer beside its own chance."""
    rows = []
    for kind, pick in (("label", 0), ("operator", 1)):
        names = dict.fromkeys(one.name for each in report.layers for one in (each.labels, each.pde_classes)[pick])
        for name in names:
            found = [one for each in report.layers for one in (each.labels, each.pde_classes)[pick] if one.name == name]
            total = sum(one.total for one in found)
            expected = sum(one.null_share * one.total for one in found if one.null_total)
            count = sum(one.count for one in found)
            if total and (count or expected >= 0.5):
                ratio = count / expected if expected > 0 else math.inf
                # one kernel where a third of one was expected is no news
                sure = abs(count - expected) > 2 * math.sqrt(max(expected, 1))
                colour = "up" if sure and ratio > 1.25 else "down" if sure and ratio < 0.8 else ""
                times = f"{ratio:.2f}" if math.isfinite(ratio) else "never by chance"
                rows.append(
                    f"<tr class='{colour}'><td>{escape(name)}</td><td>{kind}</td><td>{count}</td>"
                    f"<td>{count / total:.3f}</td><td>{expected / total:.3f}</td><td>{times}</td></tr>"
                )
    head = "<tr><th>name</th><th>kind</th><th>kernels</th><th>share</th><th>by chance</th><th>times chance</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _layers(report: KernelReport) -> str:
    head = (
        "<tr><th>layer</th><th>channels</th><th>size</th><th>kernels</th><th>dead</th>"
        "<th>most above chance</th><th>times (95 %)</th><th>clusters: silhouette, p</th></tr>"
    )
    rows = []
    for each in report.layers:
        layer, best = each.layer, _most(each)
        told = (
            ("-", "-")
            if best is None
            else (escape(best.name), f"{best.enrichment:.2f} ({best.low:.2f}-{best.high:.2f})")
        )
        clusters = "-" if each.clusters is None else f"{each.clusters.silhouette:.2f}, {each.clusters.p:.2f}"
        size = "x".join(map(str, layer.stored_size))
        rows.append(
            f"<tr><td>{layer.index + 1}: {escape(layer.name)}</td><td>{layer.in_channels} to {layer.out_channels}</td>"
            f"<td>{size}</td><td>{layer.count}</td><td>{each.dead}</td><td>{told[0]}</td><td>{told[1]}</td>"
            f"<td>{clusters}</td></tr>"
        )
    return f"<table>{head}{''.join(rows)}</table>"


def _most(each: LayerReport) -> Share | None:
    """The label whose interval is farthest above chance."""
    above = [one for one in each.labels if one.count and one.low > 1]
    return max(above, key=lambda one: one.low, default=None)


def _confused(report: KernelReport) -> str:
    pairs = dict.fromkeys((a, b, round(gap, 3)) for found in report.confusions.values() for a, b, gap in found)
    if not pairs:
        return ""
    items = "".join(f"<li>{escape(a)} and {escape(b)}: {gap:.3f}</li>" for a, b, gap in pairs)
    return f"<h2>Labels nearer to each other than the threshold</h2><ul>{items}</ul>"


def _skipped(report: KernelReport) -> str:
    if not report.skipped:
        return ""
    items = "".join(
        f"<li>{escape(each.name)}, {'x'.join(map(str, each.size))}, {each.count} kernels: {escape(each.reason)}</li>"
        for each in report.skipped
    )
    return f"<h2>Not analysed</h2><ul>{items}</ul>"
