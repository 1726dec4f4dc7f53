"""Tuned constants of the adaptive rule, in one table. Each entry begins with its unit.

`benchmarks/integral_constants.py` measures them: it changes one constant at a time and prints the
errors of attributions, these errors over their estimates, the evaluations and the time.

Its last run, in `benchmarks/integral_constants.json`, had three photographs, two layers of two
networks and a tolerance of 0.003, on a processor. Visible were the effects of the first intervals,
the spacings and `COMPLETENESS` on errors and cost, and of `SAFETY`, `DECAY` and
`LEAST_DISSIMILARITY` on estimates. Few intervals were halved there, so the constants of halving had
next to no effect; they matter for harder images. Those for a GPU were not measured. How the values
were chosen in the first place is not on record. `FIRST_INTERVALS` and `FEWEST_INTERVALS` were 4.4
and 14 then. They were lowered with 30 photographs and EfficientNet-Lite0: on 20 of them 3.4 times
fewer evaluations than 51 (before 3.1), and 96.0 % of attributions within 1 % (98.1 %).
"""

# -- both rules ------------------------------------------------------------------------------------

EXACT = 1e-5
"""Relative error: float32 rounding, which an exact integral reports. Not tuned."""

COMPLETENESS = 0.02
"""Share of what moves the logits: the most that sum(IG F) may be away from z(F) - z(0)."""

# -- fixed rule ------------------------------------------------------------------------------------

ROUGH = 0.05
"""Relative error: from this estimate on, a note says that a fixed rule is too coarse. Networks of
ReLUs have less with 50 steps as a rule, although their true errors are mostly below 1 %."""

# -- rescale rule: intervals -----------------------------------------------------------------------

FIRST_INTERVALS = 3.7
"""Intervals per square root of the activation depth, to begin with at a tolerance of 1 %."""

FEWEST_INTERVALS, MOST_FIRST_INTERVALS, MOST_INTERVALS = 12, 32, 128
"""Intervals: the fewest and the most to begin with, and the most in the end."""

WIDER_ENDS = 0.35
"""Share of the average width: how much wider intervals are at both ends, where less happens."""

CONVERGENCE_ORDER = 1.7
"""Exponent: the error falls like the number of intervals to the power of minus this."""

TYPICAL_ERROR = 0.25
"""Ratio of an attribution's error to its estimate in practice: five in six are below."""

UNSEEN_ERROR = 0.1
"""Tolerances added to an error estimate, which may be small by chance."""

# -- rescale rule: which intervals to halve --------------------------------------------------------

LEFT_AFTER_HALVING = 0.15
"""Share of the square of an interval's error estimate that its two halves keep together."""

LEAST_DISSIMILARITY = 0.25
"""Relative squared difference taken at least between neighbours: few units may change together
by chance."""

EXTRAPOLATION = 0.3
"""Share of the change from an interval to its halves that is added once more."""

MOST_HALVED = 0.9
"""Share of the squared error estimates that is halved at a time, at most."""

# -- rescale rule: numbers -------------------------------------------------------------------------

SHORTEST_STEP = 1e-3
"""Share of |x|: a shorter step between two points is lengthened before dividing by it."""

CACHED_NUMBERS = 1 << 18
"""Numbers processed at a time on a processor, so that they stay in its cache (speed)."""

GPU_NUMBERS = 1 << 26
"""Numbers processed at a time on a GPU (memory)."""

GPU_BATCHES = 4
"""Batches of images refined together on a GPU, whose passes take as long with few rows (speed)."""

# -- successive refinement of the trapezoid rule ---------------------------------------------------

SAFETY = 3.0
"""Ratio of the reported error to the last change; also of a fixed rule, to its coarser one."""

DECAY = 2.5
"""Ratio per level by which earlier changes are taken to shrink."""

LEAST_LEVEL, RESOLVED_LEVEL, MOST_LEVEL = 3, 4, 8
"""Levels of 2^level + 1 points: the first that may converge (before, attributions may stand still
by chance), the first at which equidistant points must be complete, and the last."""

EXACT_SUM = 1e-4
"""Relative error: float32 rounding of a sum over a whole layer. Not tuned."""

NEAR_ZERO = 2.0**-7
"""Alpha: below this there should be no more of an integral than `COMPLETENESS`."""

ZERO_POINT = 2.5
"""Ratio: how much more than `COMPLETENESS` may depend on the gradient at alpha = 0."""

# -- graded spacing --------------------------------------------------------------------------------

EVEN_SHARE, CHANGE_SHARE = 0.4, 0.3
"""Shares of the points spread evenly over alpha and with the change of the logits; the rest go
evenly over the octaves of alpha."""

CHANGE_BEGINS = 0.01
"""Share of the change of the logits from which on octaves count."""
