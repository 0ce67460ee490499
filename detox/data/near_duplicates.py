"""Exact and near duplicates: keys computed a batch at a time by any worker, decisions taken in one place, in order.

A text is folded first: case, white space, punctuation and control characters do not count; letters, digits and emoji
do. Two texts are exact duplicates when their folded texts are equal, and near duplicates when MinHash-LSH says that
their sets of folded 5-character shingles have a Jaccard similarity of at least the threshold (Broder 1997; banding as
in Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4). Texts are never compared, only keys: two texts of
similarity s share one of b bands of r minima with probability 1 - (1 - s^r)^b. At the default threshold of 0.85 (8
bands of 16 minima) that is 0.03 at s = 0.7, 0.20 at 0.8, 0.46 at 0.85, 0.81 at 0.9, 0.99 at 0.95 and 1 at 1.

Shapes: N rows, K keys a row (the exact key, then the bands), B bands, R minima a band, P = B * R permutations,
S shingles of a block of texts.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import regex

SHINGLE = 5
"""Characters of a shingle."""
PERMUTATIONS = 128
"""Minima at most; more sharpen the threshold and cost time in proportion."""
BLOCK_SHINGLES = 1 << 16
"""Shingles hashed at once: 256 kB an array, which stays in the cache of a core."""
SEED = 20250101
IGNORED = regex.compile(r"[\p{P}\p{Z}\p{C}\p{Sm}\p{Sc}\p{Sk}\s\uFE0E\uFE0F]+")
"""Punctuation, separators, controls, symbols other than pictures, and the selectors of a picture's variant."""
DROPPED_ASCII: Mapping[int, None] = {code: None for code in range(128) if not chr(code).isalnum()}
"""What `IGNORED` matches in ASCII, for `str.translate`, which is thirty times as fast."""

Rule = Literal["exact_duplicate", "near_duplicate"]


class Banding(NamedTuple):
    bands: int
    minima: int
    """Minima a band."""


@cache
def banding(similarity: float) -> Banding:
    """Bands and minima a band, of at most `PERMUTATIONS`, whose curve is nearest to a step at `similarity`.

    Nearest means the least area between the two: what is wrongly caught below plus what is missed above.
    """
    s = (np.arange(1000) + 0.5) / 1000
    errors = {}
    for bands in range(1, PERMUTATIONS + 1):
        for minima in range(1, PERMUTATIONS // bands + 1):
            caught = 1 - (1 - s**minima) ** bands
            errors[Banding(bands, minima)] = caught[s < similarity].sum() + (1 - caught[s >= similarity]).sum()
    return min(errors, key=lambda choice: errors[choice])


def fold(text: str) -> str:
    """`text` without what does not count; a text of punctuation only stays as it is, white space aside."""
    folded = text.casefold()
    kept = folded.translate(DROPPED_ASCII) if folded.isascii() else IGNORED.sub("", folded)
    return kept or "".join(folded.split())


def duplicate_keys(texts: Sequence[str], similarity: float) -> np.ndarray:
    """Keys `[N, 1 + B]`, uint64: the exact key, then a key a band. A key shared by two rows makes them duplicates.

    A pure function of each text: the same in any batch and any process. Bands are told apart by their keys, so that
    keys of different columns never meet. 20,000 comments of 400 characters take 1.0 s on one core.
    """
    folded = [fold(text) for text in texts]
    exact_N = np.array([_exact_key(text) for text in folded], np.uint64)
    return np.concatenate([exact_N[:, None], _band_keys(folded, banding(similarity))], axis=1)


def _exact_key(folded: str) -> int:
    return int.from_bytes(hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _band_keys(folded: Sequence[str], shape: Banding) -> np.ndarray:
    """Hash of the minima of each band `[N, B]`."""
    minima_NBR = minhash(folded, shape.bands * shape.minima).reshape(len(folded), *shape)
    keys_NB = np.tile(_mix(np.arange(1, shape.bands + 1, dtype=np.uint64)), (len(folded), 1))
    for minimum in range(shape.minima):
        keys_NB = _mix(keys_NB ^ minima_NBR[:, :, minimum])
    return keys_NB


def minhash(folded: Sequence[str], permutations: int) -> np.ndarray:
    """Minima `[N, P]`, uint32, over the shingles of each text; two rows agree in a share that estimates their Jaccard
    similarity, with standard error sqrt(s (1 - s) / P)."""
    factors_P, offsets_P = _permutations(permutations)
    minima_NP = np.empty((len(folded), permutations), np.uint32)
    for first, last, hashes_S, starts in _shingle_blocks(folded):
        for p in range(permutations):
            minima_NP[first:last, p] = np.minimum.reduceat(hashes_S * factors_P[p] + offsets_P[p], starts)
    return minima_NP


def _permutations(count: int) -> tuple[np.ndarray, np.ndarray]:
    """h -> a h + b modulo 2^32 with a odd, a permutation of the 32-bit numbers."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    draws = rng.integers(0, 1 << 32, (2, PERMUTATIONS), dtype=np.uint32)[:, :count]
    return draws[0] | np.uint32(1), draws[1]


def _shingle_blocks(folded: Sequence[str]) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(first text, last text, shingle hashes `[S]` uint32, start of each text's shingles) of runs of texts."""
    padded = [text.ljust(SHINGLE, "\0") for text in folded]  # a short text is one shingle
    counts = [len(text) - SHINGLE + 1 for text in padded]
    first = 0
    while first < len(padded):
        last, total = first + 1, counts[first]
        while last < len(padded) and total + counts[last] <= BLOCK_SHINGLES:
            total += counts[last]
            last += 1
        yield first, last, *_hashed("".join(padded[first:last]), counts[first:last])
        first = last


def _hashed(joined: str, counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)
    hashes = np.zeros(len(windows), np.uint64)
    for column in range(SHINGLE):
        hashes = _mix(hashes ^ windows[:, column])
    lengths = np.asarray(counts) + SHINGLE - 1
    ends = np.cumsum(lengths)
    inside = np.ones(len(windows), bool)  # windows over the border of two texts are left out
    for back in range(1, SHINGLE):
        inside[ends[:-1] - back] = False
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return (hashes[inside] >> np.uint64(32)).astype(np.uint32), starts


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, a bijection of 64-bit numbers in which every input bit moves every output bit."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class KeyIndex:
    """Which row a key was first seen in: sorted runs of (key, row), 16 bytes a key, searched by bisection.

    A run is merged into its neighbour once that is less than twice its size, so there are few and each key moves few
    times.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The row of each key, -1 where it is new; any shape."""
        order = np.argsort(keys, axis=None)  # bisecting for sorted keys stays in the cache: half the time of decide
        wanted, found = keys.ravel()[order], np.full(keys.size, -1, np.int64)
        for run_keys, run_rows in self._runs:
            at = np.minimum(np.searchsorted(run_keys, wanted), len(run_keys) - 1)
            found = np.where(run_keys[at] == wanted, run_rows[at], found)
        rows = np.empty(keys.size, np.int64)
        rows[order] = found
        return rows.reshape(keys.shape)

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Keys that are not in the index, each once."""
        if not len(keys):
            return
        order = np.argsort(keys)
        self._runs.append((keys[order], rows[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (keys_a, rows_a), (keys_b, rows_b) = self._runs.pop(), self._runs.pop()
            keys, rows = np.concatenate([keys_b, keys_a]), np.concatenate([rows_b, rows_a])
            order = np.argsort(keys, kind="stable")  # merges two sorted runs in one pass
            self._runs.append((keys[order], rows[order]))


class Deduplicator:
    """Takes rows in order and says which to refuse: those that share a key with an earlier row that was kept.

    The first occurrence wins, and the answer does not depend on how rows are batched. It remembers keys, not texts:
    16 bytes a key of a kept row, 290 MB for two million rows with 8 bands.

    Args:
        exact: refuse exact duplicates.
        near: refuse near duplicates (and with them exact ones, whose shingles are the same).
    """

    def __init__(self, exact: bool, near: bool) -> None:
        self.exact, self.near = exact, near
        self._index = KeyIndex()
        self._rows = array("q")
        self._parents = array("q")

    def decide(self, keys_NK: np.ndarray, rows_N: np.ndarray) -> list[tuple[Rule, int] | None]:
        """None for a row that is kept, else the rule that it breaks and the number of the earliest row that it meets.

        Args:
            keys_NK: `duplicate_keys` of the rows, uint64.
            rows_N: their numbers, int64.
        """
        base = len(self._parents)
        owners_NK = self._index.find(keys_NK)
        self._rows.extend(rows_N.tolist())
        self._parents.extend(range(base, base + len(keys_NK)))
        meets = (owners_NK >= 0) | _repeated(keys_NK)
        kept_here: dict[int, int] = {}
        verdicts: list[tuple[Rule, int] | None] = [None] * len(keys_NK)
        refused_N = np.zeros(len(keys_NK), bool)
        for n in np.flatnonzero(meets.any(axis=1)):
            keys = keys_NK[n].tolist()
            owners = [
                owner if owner >= 0 else kept_here.get(key, -1)
                for key, owner in zip(keys, owners_NK[n].tolist(), strict=True)
            ]
            self._join(base + int(n), owners)
            verdicts[n] = self._verdict(owners)
            refused_N[n] = verdicts[n] is not None
            if not refused_N[n]:
                kept_here.update((key, base + int(n)) for key, owner in zip(keys, owners, strict=True) if owner < 0)
        self._remember(keys_NK, owners_NK, ~refused_N, base)
        return verdicts

    def _verdict(self, owners: list[int]) -> tuple[Rule, int] | None:
        if self.exact and owners[0] >= 0:
            return "exact_duplicate", self._rows[owners[0]]
        near = [owner for owner in owners[1:] if owner >= 0]
        return ("near_duplicate", self._rows[min(near)]) if self.near and near else None

    def _remember(self, keys_NK: np.ndarray, owners_NK: np.ndarray, kept_N: np.ndarray, base: int) -> None:
        """The first kept row of each new key becomes its owner."""
        new_NK = (owners_NK < 0) & kept_N[:, None]
        positions = np.broadcast_to(base + np.arange(len(keys_NK))[:, None], keys_NK.shape)[new_NK]
        keys, first = np.unique(keys_NK[new_NK], return_index=True)
        self._index.add(keys, positions[first])

    def _join(self, position: int, owners: list[int]) -> None:
        for owner in owners:
            if owner >= 0:
                a, b = self._root(owner), self._root(position)
                self._parents[max(a, b)] = min(a, b)

    def _root(self, position: int) -> int:
        while self._parents[position] != position:
            self._parents[position] = self._parents[self._parents[position]]
            position = self._parents[position]
        return position

    @property
    def groups_N(self) -> np.ndarray:  # noqa: N802 (a shape suffix)
        """Number of the first row of the group of each row so far, int64, in the order in which rows came, the refused
        ones too. Rows that share a key belong together, and so do those that a third row joins."""
        roots = [self._root(position) for position in range(len(self._parents))]
        return np.array(self._rows, np.int64)[roots]


def _repeated(keys_NK: np.ndarray) -> np.ndarray:
    """Keys that occur more than once in the batch, `[N, K]`."""
    _, inverse, counts = np.unique(keys_NK, return_inverse=True, return_counts=True)
    return (counts[inverse] > 1).reshape(keys_NK.shape)
