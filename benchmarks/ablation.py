"""What each part of a rewriter's training and decoding buys, at the demo's scale: one change at a time, several seeds.

`python -m benchmarks.ablation [--seeds 1 2 3] [--storage DIR] [--processes 2]` trains, for each seed, S2's baseline
(all pairs uncleaned in a short single stage), the same for as many optimizer steps as the curriculum takes, then with
cleaning, then with stages (the recipe `demo`), then with another loss in the last stage, then with another pacing;
decodes the curriculum's model in all variants, and with each control alone; and judges everything on texts that none of
them has seen, by classifiers that none of them was trained with. All of a seed begin with the same copying habit, and
share through the stage store what they have in common.

The last lines give the curriculum's share of copies, greedy, against that of the single stage of as many steps.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.lines import print_line
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings, RewritingSettings
from detox.rewriter.loss_settings import LossSettings
from detox.rewriter.settings import StageSettings, TrainRewriterConfig
from detox.runs.config import override
from rayjobs.train_rewriter import DEMO_HABIT, demo, demo_baseline

if TYPE_CHECKING:
    from detox.data.pairs.prepared import Case, PreparedPairs
    from detox.rewriter.comparison import Outputs
    from detox.rewriter.face import Rewriter

FIGURES = ("copy", "toxic_copy", "j_2024", "sta", "similarity", "chrf", "exact_match")
SHORT, SAME_STEPS, CURRICULUM = "baseline, short", "baseline, as many steps", "curriculum"
LOSSES = {
    "toxic mass": LossSettings(toxic_mass=1.0),
    "toxic classifier": LossSettings(toxic_classifier=1.0),
    "consistency": LossSettings(consistency=1.0),
    "unlikelihood": LossSettings(unlikelihood=0.5),
    "contrast": LossSettings(contrast=0.5),
    "odds ratio": LossSettings(odds_ratio=0.2),
    "DPO": LossSettings(cross_entropy=0.5, dpo=1.0),
}
"""Of the curriculum's last stage."""
CONTROLS = {
    "lexicon 5": DecodingSettings(lexicon=5.0),
    "substitutes 2": DecodingSettings(substitutes=2.0),
    "copy penalty 5": DecodingSettings(copy_penalty=5.0),
    "token toxicity 5": DecodingSettings(toxicity=5.0),
    "rescoring 5": DecodingSettings(rescoring=5.0),
}
"""Each alone, on the curriculum's model, greedy."""
DIVERSE = GenerationSettings(mode="beam", candidates=4, beams=8, groups=4, diversity=2.5, max_new_tokens=80)
"""In place of the recipe's samples, as many candidates, reranked."""
TEST_SEED, TEST_ROWS = 7, 1600
"""Of the pairs that judge and test."""


class Measured(NamedTuple):
    """A system's figures for one seed, means over the test texts."""

    seed: int
    system: str
    steps: int
    """Optimizer steps after the habit."""
    figures: dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        waiting = [pool.submit(one_seed, seed, options.storage, options.rows) for seed in options.seeds]
        found = [one for future in waiting for one in future.result()]
    print(table(found))
    print(f"the report of seed {options.seeds[0]}: {report_command(Path(options.storage), options.seeds[0])}")
    _headline(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--storage", default="runs/ablation", help="folder of the runs; finished ones are taken as is")
    parser.add_argument("--processes", type=int, default=2, help="seeds at a time, a thread each")
    parser.add_argument("--rows", type=int, default=0, help="training pairs; 0: the recipe's")
    return parser


def one_seed(seed: int, storage: str, rows: int = 0) -> list[Measured]:
    """Train and judge all systems of one seed."""
    import torch

    from detox.data.pairs.prepared import cases
    from detox.evaluation.judges import offline_judges
    from detox.rewriter.artifact import Helpers
    from detox.rewriter.comparison import VARIANTS, Outputs, baselines, judged, judged_systems
    from detox.rewriter.face import Rewriter
    from detox.rewriter.lexicon import Lexicon

    torch.set_num_threads(1)
    trained, steps = _train(seed, storage, rows)
    pairs = unseen(Path(storage) / "test-pairs", trained[CURRICULUM].data.limit)
    wanted, judge_rows = cases(pairs.part("test")), pairs.part("judge")
    judges = offline_judges(judge_rows)
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in judge_rows)

    rewriters = {name: Rewriter.load(str(_place(config))) for name, config in trained.items()}
    helpers = Helpers.load(_place(trained[CURRICULUM]) / "artifact")
    systems = baselines(wanted, judges, lexicon, helpers.lexicon)
    people = Outputs([case.references[0] for case in wanted], ["reference"] * len(wanted))
    systems.append(judged("reference", people, wanted, judges, lexicon))
    for name, rewriter in rewriters.items():
        variants = VARIANTS if name == CURRICULUM else VARIANTS[:1]
        systems += judged_systems(rewriter, wanted, judges, lexicon, variants, name)
    for name, outputs in otherwise_decoded(rewriters[CURRICULUM], wanted):
        systems.append(judged(name, outputs, wanted, judges, lexicon))
    found = []
    for system in systems:
        name = system.name.removesuffix("/greedy")
        figures = {figure: system.judged.mean(figure) for figure in FIGURES}
        found.append(Measured(seed, name, steps.get(name.partition("/")[0], 0), figures))
        print(json.dumps({"benchmark": "ablation", **found[-1]._asdict()}), flush=True)
    return found


def otherwise_decoded(rewriter: Rewriter, wanted: Sequence[Case]) -> Iterator[tuple[str, Outputs]]:
    """What a rewriter makes of the cases under each of `CONTROLS`, and with the candidates of a diverse beam."""
    from detox.rewriter.comparison import rewritten

    for name, decoding in CONTROLS.items():
        steered = rewriter.with_settings(RewritingSettings(generation=rewriter.settings.generation, decoding=decoding))
        yield f"{CURRICULUM}/{name}", rewritten(steered, wanted, "steered")
    beam = rewriter.with_settings(rewriter.settings.model_copy(update={"generation": DIVERSE}))
    yield f"{CURRICULUM}/reranked, diverse beam", rewritten(beam, wanted, "reranked")


def _train(seed: int, storage: str, rows: int) -> tuple[dict[str, TrainRewriterConfig], dict[str, int]]:
    """Every system's config, trained, and its optimizer steps after the habit."""
    from rayjobs.train_rewriter import run

    common: dict[str, Any] = {
        "scaling.num_workers": 0,
        "run.storage": storage,
        "run.seed": seed,
        "evaluation.variants": ("greedy",),
        "evaluation.test_texts": 50,
        "evaluation.stage_texts": 50,
    } | ({"data.limit": rows} if rows else {})
    trained: dict[str, TrainRewriterConfig] = {}
    steps: dict[str, int] = {}

    def train(name: str, config: TrainRewriterConfig, **changes: Any) -> dict[str, float]:
        """The figures of the last stage."""
        run_name = f"{name.replace(', ', '-').replace(' ', '-')}-s{seed}"
        trained[name] = override(config, common | {"run.name": run_name} | changes)
        run(trained[name], name)
        stages: list[dict[str, float]] = json.loads((_place(trained[name]) / "stages.json").read_text())["figures"]
        steps[name] = int(sum(stage["steps"] for stage in stages[1:]))
        return stages[-1]

    *earlier, last = demo().curriculum.stages
    cleaned = train(CURRICULUM, demo())
    uncleaned = train(SHORT, demo_baseline())
    train("curriculum, uncleaned", demo(), **{"data.cleaning.enabled": False})
    for name, base, pairs in (
        (SAME_STEPS, demo_baseline(), uncleaned["pairs"]),
        ("cleaned, as many steps", demo(), cleaned["pairs"]),
    ):
        a_epoch = math.ceil(pairs / base.batch.size)
        epochs = (steps[CURRICULUM] - 0.5) / a_epoch  # the Trainer rounds up to whole steps
        single = StageSettings(stage="full", epochs=epochs, lr=last.lr)
        train(name, base, **{"curriculum.stages": (DEMO_HABIT, single)})
        if base.data.cleaning.enabled:
            drawn = (steps[CURRICULUM] - 0.5) * base.batch.size / pairs  # there a step is a batch, however many pairs
            paced = single.model_copy(update={"epochs": drawn})
            changes = {"curriculum.pacing": "competence", "curriculum.stages": (DEMO_HABIT, paced)}
            train(f"{name}, by competence", base, **changes)
    for name, loss in LOSSES.items():
        otherwise = last.model_copy(update={"loss": loss})
        train(f"{CURRICULUM}, {name}", demo(), **{"curriculum.stages": (*earlier, otherwise)})
    train(f"{CURRICULUM}, cumulative", demo(), **{"curriculum.pacing": "cumulative"})
    return trained, steps


def _place(config: TrainRewriterConfig) -> Path:
    return Path(config.run.storage) / config.run.name


def unseen(folder: Path, rows: int) -> PreparedPairs:
    """Prepared pairs of which no source is among the recipe's: half to judge with, half to be tested on."""
    from filelock import FileLock

    from detox.data.pairs.prepare import prepare_pairs
    from detox.data.pairs.prepared import FACTS, PreparedPairs
    from detox.data.pairs.settings import PairSettings
    from detox.data.synthetic_pairs import generate_pairs

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / FACTS).exists():
            return PreparedPairs.open(folder)
        seen = {pair["toxic"] for pair in generate_pairs(rows)}
        fresh = [pair for pair in generate_pairs(TEST_ROWS, TEST_SEED) if pair["toxic"] not in seen]
        file = folder.with_suffix(".jsonl")
        file.write_text("\n".join(json.dumps(pair) for pair in fresh), encoding="utf-8")
        settings = override(PairSettings(source=(str(file),), judge_share=0.9), {"split.ratios": (0.5, 0.0, 0.5)})
        return prepare_pairs(settings, folder, TEST_SEED)


def report_command(storage: Path, seed: int) -> str:
    """Compares a seed's rewriters on the same texts, with plots, significance and samples; the curriculum is last, and
    so what the verdict is about."""
    runs = sorted(storage.glob(f"*-s{seed}"), key=lambda run: (run.name == f"{CURRICULUM}-s{seed}", run.name))
    names = " ".join(map(str, runs))
    return (
        f"python -m rayjobs.evaluate rewriters --rewriters {names} --data.source {storage / 'test-pairs'} "
        f"--run.storage {storage} --run.name report"
    )


def table(found: Sequence[Measured]) -> str:
    """Means over the seeds, and the copies of each seed, as markdown."""
    rows = [f"| system | steps | {' | '.join(FIGURES)} | copy, each seed |", f"|---|{'---:|' * (len(FIGURES) + 1)}---|"]
    for system in dict.fromkeys(one.system for one in found):
        mine = [one for one in found if one.system == system]
        figures = [mean(one.figures[figure] for one in mine) for figure in FIGURES]
        each = " ".join(f"{one.figures['copy']:.3f}" for one in mine)
        steps = mean(one.steps for one in mine)
        rows.append(f"| {system} | {steps:.0f} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {each} |")
    return "\n".join(rows)


def _headline(found: Sequence[Measured]) -> None:
    def of(system: str, figure: str) -> list[float]:
        return [one.figures[figure] for one in found if one.system == system]

    for figure, better in (("j_2024", "higher"), ("copy", "lower")):
        print_line(
            "ablation",
            f"{figure}, curriculum against baseline",
            of(CURRICULUM, figure),
            of(SAME_STEPS, figure),
            better,
            "1",
        )


if __name__ == "__main__":
    main()
