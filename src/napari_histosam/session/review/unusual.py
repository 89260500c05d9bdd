"""How far objects lie from what is usual in their class, by robust statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A class with fewer objects has no usual value.
ENOUGH = 8
# The median absolute deviation of a normal distribution is its standard deviation over this.
_MAD = 1.4826
# Values alike to the last digit would make every difference infinitely unusual.
_LEAST_SPREAD = 0.02
# Winsorised at this many deviations, so that a few outliers cannot stretch the covariance.
_CLIP = 3.0
_RIDGE = 0.1


def deviations(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    reference: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how many robust deviations values differ from their group's median.

    The deviation is the median absolute deviation times 1.4826 (Hampel 1974), at least 0.02.

    Parameters
    ----------
    values : (n, k) float array
        NaN where unknown: such rows neither count nor get a value.
    groups : (n,) int array
    reference : (n,) bool array, optional
        Rows whose median and spread count, where a group has at least 8 of them; else all do.

    Returns
    -------
    z : (n, k) float array
        Signed; NaN where unknown or the group has fewer than 8 rows.
    usual : (n, k) float array
        The group's median.
    """
    z = np.full(values.shape, np.nan)
    usual = np.full(values.shape, np.nan)
    known = np.isfinite(values).all(axis=1)
    for group in np.unique(groups[known]):
        rows = known & (groups == group)
        base = rows if reference is None else rows & reference
        if base.sum() < ENOUGH:
            base = rows
        if base.sum() < ENOUGH:
            continue
        centre = np.median(values[base], axis=0)
        spread = _MAD * np.median(np.abs(values[base] - centre), axis=0)
        z[rows] = (values[rows] - centre) / np.maximum(spread, _LEAST_SPREAD)
        usual[rows] = centre
    return z, usual


def distances(
    z: NDArray[np.float64],
    groups: NDArray[np.int64],
    reference: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return Mahalanobis distances from the group's centre, per root of the number of features.

    Parameters
    ----------
    z : (n, k) float array
        What `deviations` gave. The covariance is that of its values cut at 3, plus 0.1 on the
        diagonal, so that it is neither stretched by outliers nor singular.
    groups, reference
        As there.

    Returns
    -------
    (n,) float array
        About 1 is usual; NaN where unknown.
    """
    out = np.full(len(z), np.nan)
    known = np.isfinite(z).all(axis=1)
    size = z.shape[1]
    for group in np.unique(groups[known]):
        rows = known & (groups == group)
        base = rows if reference is None else rows & reference
        if base.sum() < ENOUGH:
            base = rows
        tame = np.clip(z[base], -_CLIP, _CLIP)
        spread = tame.T @ tame / len(tame) + _RIDGE * np.eye(size)
        solved = np.linalg.solve(spread, z[rows].T).T
        out[rows] = np.sqrt(np.maximum((z[rows] * solved).sum(axis=1), 0) / size)
    return out
