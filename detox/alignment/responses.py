"""Responses before and after a tuning beside those that the data have: ROUGE, length, copies, toxicity; and guards
against a reward that was pleased by something else.

S5 reports toxicity alone, 0.0096 of the data's summaries and 0.0020 of the model's: near the floor, where fewer words
or other words tell as much. So responses are also held against the data's, and against what the model said before, and
toxicity is measured on prompts apart that are toxic themselves.

Shapes: N prompts, S of them toxic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from detox.alignment.finetune_settings import FinetuneEvaluationSettings
from detox.alignment.guard_settings import GuardSettings
from detox.alignment.ngrams import ngrams, words
from detox.alignment.rewards import SummaryReward
from detox.alignment.tunable import plain_prompt
from detox.data.examples.example import Example
from detox.evaluation.statistics import Comparison, mean_of_means

ROUGE = ("rouge1", "rouge2", "rougeL")
COPY_ORDER = 4
Toxicity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""See `detox.classifier.scorer.load_toxicity`."""


class Guard(NamedTuple):
    name: str
    asked: str
    found: str
    holds: bool


class Responses(NamedTuple):
    """Figures of responses to prompts whose data have one; changes are paired over the prompts."""

    before: dict[str, float]
    """`rouge1`, `rouge2`, `rougeL` (F1, 0..1), `words` (a response), `copied` (share, 0..1), and with a judge
    `toxic_prompts` (number) and `toxicity_when_toxic` (mean of responses to those, 0..1)."""
    after: dict[str, float]
    changes: dict[str, Comparison]
    data: dict[str, float]
    """`words`, `copied` and, with a judge, `toxicity` of the data's own responses."""
    guards: tuple[Guard, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Names of guards that do not hold."""
        return [guard.name for guard in self.guards if not guard.holds]


def compare_responses(
    examples: Sequence[Example],
    before: Sequence[str],
    after: Sequence[str],
    toxicity: Toxicity | None,
    settings: FinetuneEvaluationSettings,
    guarded: bool,
) -> Responses | None:
    """Both models' responses to the same examples; None where no example has a prompt and a response.

    Args:
        toxicity: the judge's; None: toxicity is not judged.
        guarded: the model learnt from a reward, so guards are asked.
    """
    rows = [at for at, example in enumerate(examples) if example.prompt and example.chosen]
    if not rows:
        return None
    prompts, data = [plain_prompt(examples[at].prompt) for at in rows], [examples[at].chosen for at in rows]
    said = [[texts[at] for at in rows] for texts in (before, after)]
    first, second = (_figures(texts, prompts, data) for texts in said)
    own = {name: float(values_N.mean()) for name, values_N in _figures(data, prompts, data).items()}
    found = Responses(
        {name: float(values_N.mean()) for name, values_N in first.items()},
        {name: float(values_N.mean()) for name, values_N in second.items()},
        {name: mean_of_means([second[name] - first[name]]) for name in first},
        {name: own[name] for name in ("words", "copied")},
    )
    if toxicity is not None:
        found.data["toxicity"] = float(_judged(toxicity, data).mean())
        _add_toxic_prompts(found, toxicity, prompts, said, settings.toxic_prompt)
    return found._replace(guards=guards_of(found, settings.guards)) if guarded else found


def _figures(responses: Sequence[str], prompts: Sequence[str], data: Sequence[str]) -> dict[str, np.ndarray]:
    """float64 `[N]` each."""
    found = {kind: np.array(SummaryReward(kind)(prompts, responses, reference=data)) for kind in ROUGE}
    found["words"] = np.array([len(text.split()) for text in responses], np.float64)
    found["copied"] = np.array([copied(text, prompt) for text, prompt in zip(responses, prompts, strict=True)])
    return found


def copied(response: str, prompt: str) -> float:
    """Share of a response's 4-grams of words and signs that stand in its prompt, 0..1; of a shorter response whether
    the prompt has the whole, of an empty one 0."""
    mine = words(response)
    order = min(COPY_ORDER, len(mine))
    if not order:
        return 0.0
    theirs = set(ngrams(words(prompt), order))
    return float(np.mean([one in theirs for one in ngrams(mine, order)]))


def _judged(toxicity: Toxicity, texts: Sequence[str]) -> np.ndarray:
    return toxicity(texts, [""] * len(texts))


def _add_toxic_prompts(
    found: Responses, toxicity: Toxicity, prompts: Sequence[str], said: Sequence[Sequence[str]], threshold: float
) -> None:
    rows_S = np.flatnonzero(_judged(toxicity, prompts) >= threshold).tolist()
    found.before["toxic_prompts"] = found.after["toxic_prompts"] = float(len(rows_S))
    if len(rows_S):
        before_S, after_S = (_judged(toxicity, [texts[at] for at in rows_S]) for texts in said)
        found.before["toxicity_when_toxic"] = float(before_S.mean())
        found.after["toxicity_when_toxic"] = float(after_S.mean())
        found.changes["toxicity_when_toxic"] = mean_of_means([after_S - before_S])


def guards_of(found: Responses, settings: GuardSettings) -> tuple[Guard, ...]:
    """Whether summaries are as good, as long and as much the model's own words as before."""
    rouge, rise = found.changes["rougeL"], found.changes["copied"].difference
    ratio = found.after["words"] / found.before["words"] if found.before["words"] else float("nan")
    least, most = settings.least_length_ratio, settings.most_length_ratio
    return (
        Guard(
            "rougeL",
            f"ROUGE-L changes by more than {settings.least_rouge_change:+.2f}, with its whole interval",
            f"{rouge.difference:+.4f} ({rouge.low:+.4f} to {rouge.high:+.4f})",
            rouge.low > settings.least_rouge_change,
        ),
        Guard("length", f"{least:.2f} to {most:.2f} times the words of before", f"{ratio:.2f}", least <= ratio <= most),
        Guard(
            "copies",
            f"copied 4-grams rise by at most {settings.most_copied_change:.2f}",
            f"{rise:+.4f}",
            rise <= settings.most_copied_change,
        ),
    )
