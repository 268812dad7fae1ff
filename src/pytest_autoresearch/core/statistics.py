"""Student's t distribution."""

import math


def student_t_cdf(t: float, df: int) -> float:
    """P(T ≤ t) of Student's t with a whole number of degrees of freedom (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(df))
    cos, sin = math.cos(theta), math.sin(theta)
    term = total = cos if df % 2 else 1.0
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    if df == 1:
        total = 0.0
    inside = 2 / math.pi * (theta + sin * total) if df % 2 else sin * total
    return (1 + inside) / 2
