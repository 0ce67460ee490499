"""Dealing rows to train, validation and test: stratified over label combinations, near duplicates kept together.

Rows that share a group are one unit, dealt whole. Units with the same counts (rows, and positives and negatives of
each label) form a stratum. A stratum large enough to give every part a unit is dealt in proportion, at random; the
others, rare combinations and heavy groups, go first, in the order of iterative stratification (Sechidis, Tsoumakas and
Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011), the rarest label value first. The package
iterative-stratification has no groups, and takes a pass over all rows for each row of a label; here the loop sees a few
rows a combination: two million rows with six labels are split in 3 s.

Shapes: N rows, L labels, U units, C columns counted (rows, positives of each label, negatives of each label), P parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from detox.data.prepared import PARTS
from detox.data.settings import SplitSettings

TRAIN = 0
UNDEALT = -1


def split(
    labels_NL: np.ndarray,
    labels: Sequence[str],
    named_N: np.ndarray,
    groups_N: np.ndarray,
    settings: SplitSettings,
    seed: int,
) -> np.ndarray:
    """The part of each row, int8 `[N]`: 0 train, 1 validation, 2 test; the same ones for the same seed.

    A label that has at least as many units as there are parts appears in each of them, where its combinations with
    others permit, and so does its absence; fractions count from 0.5, missing values as a third kind. With
    `settings.keep_named` a row whose part is named goes there, even if the source has put a near duplicate elsewhere; a
    part that no row names is cut from the rows named `train`, in the proportion of the ratios; unnamed rows follow the
    named rows of their group.

    Args:
        labels_NL: float32 in 0..1, NaN where missing.
        labels: their names.
        named_N: `train`, `validation`, `test`, or "" where the source names none.
        groups_N: rows with the same number stay together, int64.
        settings: ratios, labels to stratify on, and whether named parts are kept.
        seed: of the random order.

    Raises:
        ValueError: `stratify_on` has an unknown label, or a part that should have rows would have none.
    """
    columns = _columns(labels, settings.stratify_on)
    counts_NC = _counts(labels_NL[:, columns])
    groups_N = pd.factorize(groups_N)[0]
    ratios_P = np.array(settings.ratios)
    rng = np.random.default_rng(seed)
    codes_N = np.full(len(groups_N), UNDEALT, np.int8)
    if settings.keep_named:
        codes_N = _named(counts_NC, named_N, groups_N, ratios_P, rng)
    rest_N = codes_N == UNDEALT
    codes_N[rest_N] = _deal(counts_NC[rest_N], groups_N[rest_N], ratios_P, rng)
    _check_parts(codes_N, ratios_P)
    return codes_N


def _columns(labels: Sequence[str], stratify_on: Sequence[str]) -> list[int]:
    unknown = [label for label in stratify_on if label not in labels]
    if unknown:
        raise ValueError(
            f"split.stratify_on names {unknown[0]!r}, which is no label of these data: {', '.join(labels)}"
        )
    return [list(labels).index(label) for label in stratify_on or labels]


def _counts(labels_NL: np.ndarray) -> np.ndarray:
    """One row, its positives and its negatives of each label `[N, C]`, int32: what a part must have its share of."""
    positives, negatives = labels_NL >= 0.5, labels_NL < 0.5  # both false for a missing value
    ones = np.ones((len(labels_NL), 1), bool)
    return np.concatenate([ones, positives, negatives], axis=1).astype(np.int32)


def _named(
    counts_NC: np.ndarray, named_N: np.ndarray, groups_N: np.ndarray, ratios_P: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Parts of the rows that the source deals, `UNDEALT` for the others."""
    codes_N = np.full(len(groups_N), UNDEALT, np.int8)
    for part, name in enumerate(PARTS):
        codes_N[named_N == name] = part
    has_P = np.bincount(codes_N[codes_N != UNDEALT], minlength=len(PARTS)) > 0
    if not has_P.any():
        return codes_N
    ratios_P = np.where(has_P & (np.arange(len(PARTS)) != TRAIN), 0, ratios_P)
    if has_P[TRAIN] and np.count_nonzero(ratios_P) > 1:
        elsewhere = np.isin(groups_N, groups_N[codes_N > TRAIN])
        cut_N = (codes_N == TRAIN) & ~elsewhere
        codes_N[cut_N] = _deal(counts_NC[cut_N], groups_N[cut_N], ratios_P / ratios_P.sum(), rng)
    part_of_group = np.full(groups_N.max() + 1, UNDEALT, np.int8)
    np.maximum.at(part_of_group, groups_N, codes_N)
    return np.where(codes_N == UNDEALT, part_of_group[groups_N], codes_N)


def _deal(counts_NC: np.ndarray, groups_N: np.ndarray, ratios_P: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Parts `[N]` by the ratios, groups whole."""
    if not len(groups_N):
        return np.zeros(0, np.int8)
    _, unit_N = np.unique(groups_N, return_inverse=True)
    counts_UC = np.stack([np.bincount(unit_N, column) for column in counts_NC.T], axis=1).astype(np.int32)
    stratum_U = pd.DataFrame(counts_UC).groupby(list(range(counts_UC.shape[1]))).ngroup().to_numpy()
    large_U = np.bincount(stratum_U)[stratum_U] * ratios_P[ratios_P > 0].min() >= 1
    parts_U = np.full(len(counts_UC), UNDEALT, np.int8)
    small = rng.permutation(np.flatnonzero(~large_U))
    _iterative(small, counts_UC, _targets(counts_UC[small].sum(axis=0), ratios_P), parts_U)
    _proportional(np.flatnonzero(large_U), stratum_U, _remaining(counts_UC, ratios_P, parts_U), parts_U, rng)
    left = rng.permutation(np.flatnonzero(parts_U == UNDEALT))
    _iterative(left, counts_UC, _targets(counts_UC.sum(axis=0), ratios_P), parts_U)
    return parts_U[unit_N]


def _remaining(counts_UC: np.ndarray, ratios_P: np.ndarray, parts_U: np.ndarray) -> np.ndarray:
    """Shares of the rows not dealt yet that bring the parts to `ratios_P`; a heavy group may have filled one."""
    lacks_P = np.maximum((ratios_P * counts_UC.sum(axis=0)[0]) - _dealt(counts_UC, parts_U, len(ratios_P))[:, 0], 0)
    return lacks_P / max(lacks_P.sum(), 1)


def _dealt(counts_UC: np.ndarray, parts_U: np.ndarray, parts: int) -> np.ndarray:
    """What each part has `[P, C]`, float64."""
    return np.stack([counts_UC[parts_U == part].sum(axis=0) for part in range(parts)]).astype(np.float64)


def _proportional(
    units: np.ndarray, stratum_U: np.ndarray, ratios_P: np.ndarray, parts_U: np.ndarray, rng: np.random.Generator
) -> None:
    """Give each part its share of every stratum of `units`, rounded down, and leave the rest `UNDEALT`."""
    order = rng.permutation(units)
    order = order[np.argsort(stratum_U[order], kind="stable")]
    sizes_S = np.unique(stratum_U[order], return_counts=True)[1]
    shares_SP = np.floor(sizes_S[:, None] * ratios_P + 1e-9).astype(np.int64)
    left_S1 = sizes_S[:, None] - shares_SP.sum(axis=1, keepdims=True)
    kinds = np.tile(np.array([*range(len(ratios_P)), UNDEALT], np.int8), len(sizes_S))
    parts_U[order] = np.repeat(kinds, np.concatenate([shares_SP, left_S1], axis=1).ravel())


def _iterative(units: np.ndarray, counts_UC: np.ndarray, targets_PC: np.ndarray, parts_U: np.ndarray) -> None:
    """Deal `units` so that the parts come near their targets: the rarest column first, its heaviest units first.

    A unit goes to the part that has nothing yet of most of its columns, then to the one where it most lowers the sum of
    (target - dealt)^2 / target over the columns. The paper looks at what is lacking of the one column: on random tables
    of 30 to 300 rows in groups of three, a part is then up to 13 rows off in 99 of 100 splits, and up to 3 this way.
    """
    used_P = np.flatnonzero(targets_PC[:, 0])
    dealt_PC = _dealt(counts_UC, parts_U, len(targets_PC))
    while len(units):
        open_UC = counts_UC[units]
        totals_C = open_UC.sum(axis=0)
        column = int(np.argmin(np.where(totals_C > 0, totals_C, totals_C.max() + 1)))
        holders = np.flatnonzero(open_UC[:, column])
        for unit in units[holders[np.argsort(-open_UC[holders, column], kind="stable")]]:
            has_C = counts_UC[unit]
            new_P = ((dealt_PC == 0) & (targets_PC >= 1) & (has_C > 0)).sum(axis=1)
            gain_P = (has_C * (2 * (targets_PC - dealt_PC) - has_C) / np.maximum(targets_PC, 1e-9)).sum(axis=1)
            part = used_P[np.lexsort((gain_P[used_P], new_P[used_P]))[-1]]
            dealt_PC[part] += counts_UC[unit]
            parts_U[unit] = part
        units = np.delete(units, holders)


def _targets(totals_C: np.ndarray, ratios_P: np.ndarray) -> np.ndarray:
    """What each part should have `[P, C]`: its share, but one at least where there is one for every part."""
    targets_PC = np.outer(ratios_P, totals_C)
    used_P = ratios_P > 0
    for column in np.flatnonzero(totals_C >= used_P.sum()):
        target_P = targets_PC[:, column]
        missing_P = np.where(used_P, np.maximum(1 - target_P, 0), 0)
        target_P += missing_P
        target_P[np.argmax(target_P)] -= missing_P.sum()
    return targets_PC


def _check_parts(codes_N: np.ndarray, ratios_P: np.ndarray) -> None:
    rows_P = np.bincount(codes_N, minlength=len(PARTS))
    for part, name in enumerate(PARTS):
        if rows_P[part] == 0 and (part == TRAIN or ratios_P[part] > 0):
            raise ValueError(
                f"the part {name!r} would have no rows: {len(codes_N)} rows fall into "
                f"{', '.join(f'{count} {other}' for other, count in zip(PARTS, rows_P, strict=True))}; give more rows, "
                "set its ratio to 0 in split.ratios, or keep no named parts (split.keep_named)"
            )
