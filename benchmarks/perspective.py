"""How far our scores are from Perspective's, and what a client's thresholds become (docs/perspective.md).

`python -m benchmarks.perspective --model RUN [--data rtp_5k_scored.parquet] [--mapping FILE]` scores the prompts and
continuations of RealToxicityPrompts (Gehman et al. 2020, scored by Perspective in 2020) and prints, for each attribute
that a label of the model backs: rank correlation, agreement and flip rate at the thresholds that clients use, with our
scores as they are, at the thresholds of ours that flag as much, and through a rising curve. Thresholds and curve are
fitted on one half of the texts and measured on the other; `--mapping` writes the curves of all texts, for
`gateway.perspective_mapping`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from serve.attributes import PERSPECTIVE, perspective_labels
from serve.translation import Curve, Translation, fit

SIDES = ("prompt", "continuation")
THRESHOLDS = (0.6, 0.7, 0.8, 0.9)
SEED = 0


def main(arguments: list[str] | None = None) -> None:
    import torch

    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    from detox.classifier.scorer import load_scorer

    version = _version(options.model) if options.mapping else ""
    texts, theirs = read(Path(options.data))
    scores = load_scorer(options.model).score(texts)
    curves: dict[str, Curve] = {}
    for attribute, label in perspective_labels(scores.labels).items():
        theirs_N = theirs.get(attribute, np.array([]))
        if np.isnan(theirs_N).all():
            continue
        known_N = ~np.isnan(theirs_N)
        ours_N, theirs_N = scores.column(label)[known_N].astype(float), theirs_N[known_N]
        curves[attribute] = fit(ours_N, theirs_N)
        for line in compared(attribute, label, ours_N, theirs_N):
            print(json.dumps(line), flush=True)
    if options.mapping:
        written = _merged(Path(options.mapping), version, curves)
        print(f"mapping: {options.mapping} ({', '.join(written.curves)})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perspective", description=__doc__)
    parser.add_argument("--model", required=True, help="run directory of train_classifier")
    parser.add_argument("--data", default="../shared/data/rtp_5k_scored.parquet", help="RealToxicityPrompts")
    parser.add_argument("--mapping", default="", help="file to write the curves of this model's version to")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def read(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Texts, and Perspective's scores `[N]` of each attribute, NaN where there is none.

    Args:
        path: RealToxicityPrompts as published (`prompts.jsonl`, or the hub's parquet) or flattened (`prompt`,
            `prompt_toxicity`, …); or a file of your own with `text` and a column an attribute (`toxicity`, …).

    Raises:
        SystemExit: it holds neither.
    """
    import pyarrow.json
    import pyarrow.parquet as pq

    table = pyarrow.json.read_json(path) if path.suffix == ".jsonl" else pq.read_table(path)
    if set(SIDES) <= set(table.column_names):
        sides = [_side(table, name) for name in SIDES]
    elif "text" in table.column_names:
        sides = [table.to_pydict()]
    else:
        raise SystemExit(f"{path} has the columns {', '.join(table.column_names)}, and `text` or `prompt` is needed")
    names = {one.upper(): one for one in sides[0] if one.upper() in PERSPECTIVE}
    scores = {name: np.array([score for side in sides for score in side[one]], float) for name, one in names.items()}
    return [text for side in sides for text in side["text"]], scores


def _side(table: pa.Table, name: str) -> dict[str, list[Any]]:
    """A side's `text`, and its scores by name."""
    column = table[name]
    if pa.types.is_struct(column.type):
        parts = column.combine_chunks()
        return {field.name: parts.field(field.name).to_pylist() for field in column.type}
    scores = {one.removeprefix(f"{name}_"): one for one in table.column_names if one.startswith(f"{name}_")}
    return {"text": column.to_pylist()} | {score: table[one].to_pylist() for score, one in scores.items()}


def compared(attribute: str, label: str, ours_N: np.ndarray, theirs_N: np.ndarray) -> Iterator[dict[str, Any]]:
    """A line of figures for our scores as they are, and one for those that a curve of the other half gives.

    At each threshold: `flagged` by theirs and ours, `flips` (texts that only one flags) and `kappa`; `equal`, the
    threshold of ours that flags as many texts of the other half, and the flips with it.
    """
    from scipy.stats import spearmanr

    is_fitted_N = np.random.default_rng(SEED).random(len(ours_N)) < 0.5
    curve = fit(ours_N[is_fitted_N], theirs_N[is_fitted_N])
    equal = {at: equal_threshold(ours_N[is_fitted_N], theirs_N[is_fitted_N], at) for at in THRESHOLDS}
    ours_N, theirs_N = ours_N[~is_fitted_N], theirs_N[~is_fitted_N]
    mapped_N = np.array([curve(score) for score in ours_N])
    facts = {"attribute": attribute, "label": label, "texts": len(ours_N)}
    facts["spearman"] = round(float(spearmanr(ours_N, theirs_N).statistic), 4)
    for name, scores_N in (("ours", ours_N), ("mapped", mapped_N)):
        line: dict[str, Any] = {"benchmark": "perspective", **facts, "scores": name}
        line["mean_difference"] = round(float(np.abs(scores_N - theirs_N).mean()), 4)
        for threshold in THRESHOLDS:
            mine_N, flagged_N = scores_N >= threshold, theirs_N >= threshold
            line[f"flagged@{threshold}"] = [round(float(flagged_N.mean()), 4), round(float(mine_N.mean()), 4)]
            line[f"flips@{threshold}"] = round(float((mine_N != flagged_N).mean()), 4)
            line[f"kappa@{threshold}"] = round(kappa(mine_N, flagged_N), 4)
            if name == "ours":
                moved_N = scores_N >= equal[threshold]
                line[f"equal@{threshold}"] = [equal[threshold], round(float((moved_N != flagged_N).mean()), 4)]
        yield line


def kappa(first_N: np.ndarray, second_N: np.ndarray) -> float:
    """Agreement beyond chance (Cohen 1960); 1 where both say the same of all."""
    from sklearn.metrics import cohen_kappa_score

    return 1.0 if (first_N == second_N).all() else float(cohen_kappa_score(first_N, second_N))


def equal_threshold(ours_N: np.ndarray, theirs_N: np.ndarray, threshold: float) -> float:
    """The threshold of ours that flags as many texts as theirs does."""
    share = float((theirs_N >= threshold).mean())
    return round(float(np.quantile(ours_N, 1 - share)), 4)


def _version(model: str) -> str:
    from serve.artifacts import servable

    return servable(model)[1]


def _merged(path: Path, version: str, curves: dict[str, Curve]) -> Translation:
    """The curves beside those of other versions that the file holds already."""
    before = Translation.load(str(path)).curves if path.exists() else {}
    found = Translation(before | {version: curves})
    found.save(path)
    return found


if __name__ == "__main__":
    main()
