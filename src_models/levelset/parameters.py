"""Every setting of the level set equation, defined once: form, command line, Python and record read it from here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Group = Literal["basic", "advanced", "edge", "region", "run"]


def _setting(
    default: Any,
    title: str,
    description: str,
    group: Group,
    *,
    unit: str = "",
    soft: tuple[float, float] | None = None,
    preview: bool = False,
    **bounds: Any,
) -> Any:
    """A field with its hints for forms: `soft` is the range of a slider, the bounds are what may be typed."""
    hints: dict[str, Any] = {"group": group, "unit": unit, "preview": preview}
    if soft is not None:
        hints["soft"] = list(soft)
    return Field(default, title=title, description=description, json_schema_extra=hints, **bounds)


class LevelSetParameters(BaseModel):
    """The level set equation ``u_t = balloon S |Du| + curvature W kappa |Du| + convection g^c (Dg . Du)``.

    u > 0 is inside; a positive balloon grows. Lengths are mm, times are in the units of the equation
    (with ``balloon = 1`` and S = 1 the front moves 1 mm in a time of 1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    speed: Literal["edge", "region"] = _setting(
        "edge",
        "Speed",
        "Edge: the front slows where the image changes. Region: it grows in a grey-value range and shrinks outside it.",
        "basic",
        preview=True,
    )
    balloon: float = _setting(
        1.0,
        "Grow or shrink",
        "Strength of growth (balloon); negative shrinks. Larger enters weaker edges.",
        "basic",
        soft=(-1, 1),
    )
    curvature: float = _setting(
        0.2,
        "Smoothing",
        "Weight of curvature: larger gives a smoother front and keeps it out of narrow necks.",
        "basic",
        soft=(0, 1),
        ge=0,
    )
    convection: float | None = _setting(
        None,
        "Pull to edges",
        "Weight of convection: draws the front into the valley of the edge image. "
        "Empty means 2 for edge speed, 0 for region speed.",
        "basic",
        soft=(0, 5),
        ge=0,
    )
    lower: float | None = _setting(
        None,
        "Lower threshold",
        "Region speed grows above this value. "
        "Empty means one third of the image's range, or no lower limit when only the upper one is given; "
        "both empty with seed_width: about the seed.",
        "basic",
        preview=True,
    )
    upper: float | None = _setting(
        None,
        "Upper threshold",
        "Region speed grows below this value. "
        "Empty means two thirds of the image's range, or no upper limit when only the lower one is given; "
        "both empty with seed_width: about the seed.",
        "basic",
        preview=True,
    )
    sigma: float | tuple[float, ...] = _setting(
        1.0,
        "Blur before edges",
        "Width of the Gaussian applied before the gradient; one value, or one per array axis. "
        "Larger ignores noise and blunts thin walls.",
        "basic",
        unit="mm",
        soft=(0, 3),
        preview=True,
    )
    contrast: float = _setting(
        0.04,
        "Edge contrast",
        "Gradient per mm, as a share of the grey-value range, at which the speed has fallen to one half. "
        "Smaller stops at weaker edges.",
        "basic",
        soft=(0.001, 0.2),
        gt=0,
        preview=True,
    )
    # ... advanced
    balloon_exponent: float = _setting(
        1.0,
        "Exponent of the balloon speed",
        "Power of g (edge) or |s| (region) in the balloon term.",
        "advanced",
        ge=0,
        le=4,
    )
    curvature_exponent: float | None = _setting(
        None,
        "Exponent of the curvature speed",
        "Power of g in the curvature term. Empty means 1 for edge speed, 0 for region speed.",
        "advanced",
        ge=0,
        le=4,
    )
    convection_exponent: float = _setting(
        0.0, "Exponent of the convection speed", "Additional power of g in the convection term.", "advanced", ge=0, le=4
    )
    gradient: Literal["godunov", "osher_sethian", "central", "none"] = _setting(
        "godunov",
        "Gradient of the balloon",
        "godunov solves; osher_sethian is ITK's; central and none reproduce the paper's code and slides "
        "and do not propagate a front reliably.",
        "advanced",
    )
    order: Literal[1, 2] = _setting(
        2, "Order", "Order of the one-sided differences; 1 makes a growing ball a few per cent too slow.", "advanced"
    )
    curvature_form: Literal["quotient", "nested"] = _setting(
        "quotient",
        "Form of the curvature",
        "quotient of second differences, for solving; nested central differences, as in the paper.",
        "advanced",
    )
    speed_at: Literal["front", "voxel"] = _setting(
        "front",
        "Speed read at",
        "Read the speed image at the closest point of the front, or at the voxel itself.",
        "advanced",
    )
    eps: float = _setting(1e-6, "Guard of divisions", "Added to |Du| where it divides.", "advanced", ge=0)
    root_epsilon: float = _setting(
        0.0,
        "Guard of roots",
        "delta in |Du| = sqrt(sum + delta^2): 0 for solving, 1e-6 for training.",
        "advanced",
        ge=0,
    )
    time_step: Literal["cfl"] | float = _setting(
        "cfl", "Time step", "cfl: as large as is stable; or a fixed number.", "advanced"
    )
    cfl: float = _setting(0.9, "CFL number", "Share of the largest stable time step.", "advanced", gt=0, le=1)
    redistance_every: int = _setting(
        1,
        "Redistance every",
        "Steps between redistancings; 0 never (then without a band).",
        "advanced",
        unit="steps",
        ge=0,
    )
    band: float = _setting(
        4.0,
        "Half width of the band",
        "In units of the largest voxel side; u is clipped there.",
        "advanced",
        unit="voxels",
        ge=3,
        le=32,
    )
    edge_preset: Literal["normalised", "paper"] = _setting(
        "normalised",
        "Edge indicator",
        "normalised: independent of the image's units; "
        "paper: 1 / (1 + |grad I|^2), without blur, for images scaled to [0, 1].",
        "edge",
        preview=True,
    )
    edge_power: float = _setting(
        3.0,
        "Power of the edge indicator",
        "Larger makes the fall at an edge steeper.",
        "edge",
        soft=(1, 4),
        ge=1,
        le=8,
        preview=True,
    )
    convection_sigma: float = _setting(
        0.0,
        "Blur before convection",
        "Width of the Gaussian applied to g before its gradient; 1 reproduces ITK.",
        "edge",
        unit="mm",
        ge=0,
    )
    value_range: tuple[float, float] | None = _setting(
        None,
        "Grey-value range",
        "Smallest and largest value of the region of interest. "
        "Empty means taken from the image; the record stores the numbers.",
        "edge",
    )
    region: Literal["threshold", "chan_vese", "probability"] = _setting(
        "threshold",
        "Region speed from",
        "threshold: a grey-value range; chan_vese: the means inside and outside, every step; "
        "probability: an image in [0, 1].",
        "region",
        preview=True,
    )
    seed_width: float | None = _setting(
        None,
        "Range about the seed",
        "Where both thresholds are empty: they lie this many standard deviations of the grey values under the start to "
        "either side of their mean. Larger takes in more; 2 to 3 suit most. "
        "Empty means thirds of the image's range; the record stores the numbers.",
        "region",
        unit="sd",
        soft=(1, 5),
        gt=0,
        le=100,
    )
    smoothness: float = _setting(
        3.0,
        "Sharpness of the threshold",
        "Larger makes the step at a threshold steeper.",
        "region",
        soft=(1, 10),
        gt=0,
        le=30,
        preview=True,
    )
    inside_weight: float = _setting(1.0, "Weight inside", "Chan-Vese: weight of the spread inside.", "region", gt=0)
    outside_weight: float = _setting(1.0, "Weight outside", "Chan-Vese: weight of the spread outside.", "region", gt=0)
    local_sigma: float | None = _setting(
        None,
        "Width of local means",
        "Chan-Vese: means under a Gaussian of this width. Empty means over the whole image.",
        "region",
        unit="mm",
        gt=0,
    )
    time: float | None = _setting(
        None, "Time", "Stop when this time is reached, in the units of the equation. Empty means no limit.", "run", gt=0
    )
    steps: int = _setting(2000, "Steps at most", "Stop after this many steps.", "run", ge=1)
    auto_stop: bool = _setting(True, "Stop by itself", "Stop when the front rests, and before it leaks.", "run")
    rate_tolerance: float = _setting(
        0.01,
        "Resting speed",
        "The front rests when it moves slower than this share of its free speed.",
        "run",
        gt=0,
        le=1,
    )
    guard: Literal["stop", "note", "off"] = _setting(
        "stop", "Leak guard", "stop: go back to the moment before a leak; note: only say it; off.", "run"
    )
    pyramid: bool = _setting(
        False,
        "Coarse to fine",
        "Run on halved grids first, where the image is large (96 voxels a side or more) and the run stops by itself: "
        "the same rest in less time.",
        "run",
    )
    engine: Literal["auto", "reference", "band"] = _setting(
        "auto",
        "Engine",
        "auto picks the fastest for this image and device; band is the compiled one for a processor; "
        "reference is the definition.",
        "run",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = _setting(
        "auto", "Device", "auto takes a graphics card when there is one.", "run"
    )
    dtype: Literal["float32", "float64"] = _setting("float32", "Precision", "Number format of the level set.", "run")

    @model_validator(mode="after")
    def _consistent(self) -> LevelSetParameters:
        if self.order == 2 and self.redistance_every == 0:
            raise ValueError("order=2 needs redistancing; set redistance_every to 1 or order to 1")
        if not isinstance(self.time_step, str) and self.time_step <= 0:
            raise ValueError(f"time_step must be 'cfl' or a number above 0, got {self.time_step}")
        if self.engine == "band" and self.device in ("cuda", "mps"):
            raise ValueError(f"engine='band' runs on the cpu, not on {self.device}; choose engine='auto'")
        widths = self.sigma if isinstance(self.sigma, tuple) else (self.sigma,)
        if any(width < 0 for width in widths):
            raise ValueError(f"sigma must be 0 mm or more, got {self.sigma}")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower ({self.lower:g}) must be below upper ({self.upper:g})")
        return self

    @property
    def convection_weight(self) -> float:
        """The convection weight, with the default of the speed mode filled in."""
        if self.convection is not None:
            return self.convection
        return 2.0 if self.speed == "edge" else 0.0

    @property
    def curvature_power(self) -> float:
        """The exponent of g in the curvature term, with the default of the speed mode filled in."""
        if self.curvature_exponent is not None:
            return self.curvature_exponent
        return 1.0 if self.speed == "edge" else 0.0

    def smallest_neck(self, ndim: int) -> float | None:
        """Radius in mm of the smallest neck that the front will enter, ``r_min = (n - 1) curvature / balloon``.

        None where the balloon is not positive: nothing is entered.
        """
        if self.balloon <= 0:
            return None
        return (ndim - 1) * self.curvature / self.balloon


def paper_preset(
    gradient: Literal["godunov", "osher_sethian", "central", "none"], **changes: Any
) -> LevelSetParameters:
    """The scheme of Actor, Fuentes and Riviere (2020): first order, nested curvature, no redistancing, fixed time step.

    Parameters
    ----------
    gradient : str
        Which gradient multiplies the balloon; ``"none"`` reads the slides literally.
    **changes
        Any field of `LevelSetParameters`, such as ``time_step`` and ``steps``.
    """
    settings: dict[str, Any] = {
        "gradient": gradient,
        "order": 1,
        "curvature_form": "nested",
        "speed_at": "voxel",
        "redistance_every": 0,
        "time_step": 0.1,
        "edge_preset": "paper",
        "sigma": 0.0,
        "auto_stop": False,
    }
    return LevelSetParameters(**(settings | changes))
