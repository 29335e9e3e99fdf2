"""Where the kernels find the numbers of the equation: a table on the card, in the float type of u.

An argument of a Triton kernel would be rounded to float32.
"""

from __future__ import annotations

import triton.language as tl

SPACING_Z = tl.constexpr(0)
SPACING_Y = tl.constexpr(1)
SPACING_X = tl.constexpr(2)
WIDTH = tl.constexpr(3)
SWEEP_STEP = tl.constexpr(4)
LIMIT = tl.constexpr(5)
PEAK_SHARE = tl.constexpr(6)
EPS = tl.constexpr(7)
ROOT_EPSILON_SQUARE = tl.constexpr(8)
BALLOON = tl.constexpr(9)
CURVATURE = tl.constexpr(10)
CONVECTION = tl.constexpr(11)
BALLOON_EXPONENT = tl.constexpr(12)
CURVATURE_EXPONENT = tl.constexpr(13)
CONVECTION_EXPONENT = tl.constexpr(14)
HALF_VOXEL = tl.constexpr(15)
VOXEL = tl.constexpr(16)
BALLOON_BOUND = tl.constexpr(17)
CURVATURE_BOUND = tl.constexpr(18)
CONSTRAINT = tl.constexpr(19)
LEAST_SLOPE = tl.constexpr(20)
LARGEST_SLOPE = tl.constexpr(21)
FLAT_SLOPE = tl.constexpr(22)
TIME_STEP = tl.constexpr(23)
THRESHOLD = tl.constexpr(24)
