"""The rewriter's report: every section, bad results said plainly, words masked, nothing from the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from detox.classifier.report import RunFacts
from detox.data.pairs.prepared import Case
from detox.rewriter.comparison import Outputs, System, judged
from detox.rewriter.report import comparison_report
from tests.rewriter.test_evaluation import JUDGES, LEXICON

FACTS = RunFacts(
    name="train-rewriter-demo-s42",
    command="python -m rayjobs.train_rewriter demo",
    config={"model": {"name": "tiny/t5"}},
    environment={"python": "3.11.7", "packages": {"torch": "2.13.0"}, "git": {"commit": "abc123"}},
    dataset={
        "origins": [{"name": "synthetic_pairs", "licence": "CC0-1.0", "revision": "1"}],
        "pairs": {"train": 100, "judge": 20, "validation": 10, "test": 20},
        "by_language": {"de": 75, "en": 75},
        "by_level": {"easy": 50, "medium": 50, "hard": 50},
        "refused": {"identity": 7},
    },
    events=({"event": "train", "step": 10, "loss": 0.5}, {"event": "validation", "step": 10, "loss": 0.4}),
    notices=("The pairs are synthetic.",),
)
STAGES = [
    {"stage": "1-easy", "pairs": 40, "steps": 10, "train_loss": 1.0, "loss": 0.9, "perplexity": 2.46, "copy_rate": 0.8},
    {
        "stage": "2-full",
        "pairs": 100,
        "steps": 30,
        "train_loss": 0.5,
        "loss": 0.6,
        "perplexity": 1.82,
        "copy_rate": 0.1,
    },
]
CASES = [
    Case("en" if n % 2 else "de", f"You idiot, read page {n}", (f"You, read page {n}",), "easy") for n in range(40)
]


def made(name: str, texts: Sequence[str], how: str = "model") -> System:
    return judged(name, Outputs(list(texts), [how] * len(CASES)), CASES, JUDGES, LEXICON)


OURS = "Please read page {n}"


@cache
def systems(share_copied: float = 0.0, ours: str = OURS) -> list[System]:
    """Copy, delete that finds every word in English and none in German, and ours."""
    deleted = [case.references[0] if case.lang == "en" else case.source for case in CASES]
    outputs = [ours.format(n=n) if n >= share_copied * len(CASES) else CASES[n].source for n in range(len(CASES))]
    return [
        made("copy", [case.source for case in CASES], "copied"),
        made("delete", deleted, "edited"),
        made("ours/greedy", [case.source for case in CASES]),
        made("ours/full", outputs, "reranked"),
    ]


@cache
def page(share_copied: float = 0.0, ours: str = OURS, primary: str = "") -> str:
    report = comparison_report(
        systems(share_copied, ours), CASES, JUDGES, STAGES, FACTS, primary=primary, lexicon=LEXICON
    )
    return report.render()


def headings(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", html)


def test_every_section_is_there() -> None:
    html = page()
    assert headings(html) == [
        "Result",
        "All figures",
        "By language",
        "What is sure",
        "How the outputs were made",
        "Samples",
        "Stages of the training",
        "Training",
        "Data",
        "How to make it again",
    ]
    for wanted in (
        "The pairs are synthetic.",
        "neutrality: words",
        "CC0-1.0",
        "abc123",
        FACTS.command,
        "lift over copy",
    ):
        assert wanted in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", html)


def test_a_comparison_without_training_has_no_stages() -> None:
    html = comparison_report(systems(), CASES, JUDGES, [], RunFacts("evaluate", "x"), lexicon=LEXICON).render()
    assert not {"Stages of the training", "Training", "Data"} & set(headings(html))


def test_the_verdict_is_about_the_last_system_or_the_named_one() -> None:
    assert 'note">ours/full beats copy in J' in page()
    html = page(primary="ours/greedy")
    assert "ours/greedy is not told apart from copy in J (+0.000" in html
    assert "loses to delete" in html
    assert 'class="callout bad"' in html


def test_copies_are_held_against_s2() -> None:
    """None of 40, 8 of 40 (20 %), 20 of 40 (50 %)."""
    for share, tone, said in (
        (0.0, "good", "0.0% of the outputs (0.0% to 0.0%) are their source again, which reaches what S2 ideally wants"),
        (0.2, "warning", "which is below the 25% that S2 sets, and not below the 10% that it ideally wants"),
        (0.5, "bad", "which misses the 25% that S2 sets; S2&#39;s baseline copied 72%"),
    ):
        html = page(share)
        (callout,) = re.findall(r'class="callout (\w+)" role="note">[\d.]+% of the outputs', html)
        assert callout == tone
        assert said in html


def test_languages_in_which_it_falls_short_are_named() -> None:
    """Delete is perfect in English: ours, which says something else, is below it there, and copies nowhere."""
    html = page(ours="Please look at the page")
    _, deleting, _, mine = systems(ours="Please look at the page")
    delete, ours = deleting.judged.mean("j_2024", "en"), mine.judged.mean("j_2024", "en")
    assert f"ours/full falls short: its J is below delete&#39;s in en {ours:.3f} against {delete:.3f}." in html
    html = page(0.5)
    assert "it copies more than 10% in de 50.0%, en 50.0%" in html


def test_a_rewriter_that_falls_short_nowhere_is_said_to() -> None:
    assert "In every language ours/full copies at most 10%" in page(ours="You, read page {n}")


def test_figures_carry_intervals_and_lift() -> None:
    chosen = systems()[3].judged
    low, high = chosen.interval("j_2024")
    html = page()
    assert f"{chosen.mean('j_2024'):.3f} ({low:.3f}–{high:.3f})" in html
    assert f"{chosen.mean('j_2024') - systems()[0].judged.mean('j_2024'):+.3f}</td>" in html
    assert "0.0% (0.0%–0.0%)" in html


def test_unknown_figures_are_dashes_not_numbers() -> None:
    html = page()
    assert ">nan<" not in html
    assert "–</td>" in html  # BERTScore, which nobody judged


def test_samples_are_masked() -> None:
    html = page(0.5)
    section = html[html.index('id="samples"') :]
    assert "You i****, read page" in section
    assert "idiot" not in html
    assert section.count('<th scope="row">') > 6
    learned = comparison_report(systems(), CASES, JUDGES, [], RunFacts("x", "x")).render()
    assert "idiot" not in learned  # the words are learned from the cases where no lexicon is given


def test_stages_show_losses_and_copies() -> None:
    html = page()
    section = html[html.index('id="stages-of-the-training"') : html.index('id="training"')]
    for wanted in ("1-easy", "2-full", ">40<", "2.4600", "0.8000", "Loss by stage.", "Copies by stage."):
        assert wanted in section
    assert "BERTScore" not in section  # a column that no stage has


def test_the_same_systems_give_the_same_page() -> None:
    assert page() == page.__wrapped__()
