"""Pairs from files to prepared parts: every bad pair refused with its rule, no source on two sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from detox.data.pairs.cleaning import clean_pairs, source_groups
from detox.data.pairs.difficulty import difficulty, edit_distance, levels, overlap, words
from detox.data.pairs.prepare import prepare_pairs
from detox.data.pairs.prepared import PARTS, PreparedPairs, cases
from detox.data.pairs.reading import Pair, read_pairs
from detox.data.pairs.settings import DifficultySettings, PairCleaningSettings, PairSettings
from detox.runs.config import override

TOXIC = ["idiot", "moron", "bastard", "scum"]
PLAIN = ["bridge", "garden", "report", "engine", "window", "letter", "market", "school", "ticket", "winter"]


def toxicity(texts, langs) -> np.ndarray:
    """A lexicon stands in for the scorer: 1 where a bad word stands, 0 elsewhere."""
    return np.array([float(any(word in text.lower() for word in TOXIC)) for text in texts])


def pair(toxic: str, neutral: str, lang: str = "en", row: int = 0, split: str = "") -> Pair:
    return Pair(row, "pairs.tsv", lang, toxic, neutral, split)


def lines(count: int = 120, lang: str = "en") -> list[dict]:
    """Pairs whose sources differ; every third source has two references."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        topic = " ".join(rng.choice(PLAIN, 3))
        toxic = f"the {topic} is run by an {TOXIC[number % 4]} number {number}"
        made.append({"toxic": toxic, "neutral": toxic.replace(TOXIC[number % 4], "amateur"), "lang": lang})
        if number % 3 == 0:
            made.append({"toxic": toxic, "neutral": f"the {topic} is badly run, number {number}", "lang": lang})
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    bad = ({"toxic": "", "neutral": "x"}, {"toxic": "you moron"}, {"toxic": "you moron", "neutral": 12})
    rows = [*lines(), *(row | {"lang": "en"} for row in bad)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    return path


def test_files_give_pairs_and_rejects(file: Path) -> None:
    found = read_pairs(PairSettings(source=(str(file),)))
    assert len(found.pairs) == 160
    assert {pair.lang for pair in found.pairs} == {"en"}
    assert [(reject.row, reject.rule) for reject in found.rejects] == [
        (160, "missing_side"), (161, "missing_side"), (162, "text_not_a_string"), (163, "malformed_row"),
    ]  # fmt: skip


def test_two_columns_are_enough_and_the_language_is_told(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text(
        "bad\tgood\nDu bist ein verdammter Idiot und kannst gar nichts\tDas hast du nicht gut gemacht, finde ich\n"
        "you are a complete idiot and nobody likes you\tI think that you are wrong about this\n"
    )
    settings = PairSettings(source=(f"{tmp_path}/pairs.tsv",), toxic_column="bad", neutral_column="good")
    assert [pair.lang for pair in read_pairs(settings).pairs] == ["de", "en"]
    only = read_pairs(override(settings, {"languages": ("en",)}))
    assert [pair.lang for pair in only.pairs] == ["en"]
    assert only.rejects[0].rule == "language_not_wanted"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("toxic,polite\na,b\n")
    with pytest.raises(ValueError, match=r"no column 'neutral'.*--data\.toxic-column, --data\.neutral-column"):
        read_pairs(PairSettings(source=(f"{tmp_path}/pairs.csv",)))


def test_one_file_of_a_pattern_may_say_the_language(tmp_path: Path) -> None:
    german = "Du bist ein verdammter Idiot und kannst gar nichts"
    (tmp_path / "a.jsonl").write_text(json.dumps({"toxic": german, "neutral": "Das war nicht gut"}) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"toxic": "fool", "neutral": "friend", "lang": "en"}) + "\n")
    found = read_pairs(PairSettings(source=(f"{tmp_path}/*.jsonl",)))
    assert [(pair.source, pair.lang) for pair in found.pairs] == [("a.jsonl", "de"), ("b.jsonl", "en")]
    assert [(origin.name, len(origin.files)) for origin in found.origins] == [("*.jsonl", 2)]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder: a folder of prepared pairs is taken alone"):
        read_pairs(PairSettings(source=(str(tmp_path),)))


def test_a_language_is_a_code() -> None:
    assert PairSettings(lang="EN", languages=("de-AT",)).languages == ("de",)
    for wrong in ({"lang": "English"}, {"languages": ("en", "German")}):
        with pytest.raises(ValueError, match="is no code of ISO 639"):
            PairSettings(**wrong)
    with pytest.raises(ValueError, match="is no code of ISO 639"):
        DifficultySettings(language_borders={"English": (0.2, 0.4)})


def test_too_few_pairs_for_the_judges(tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(map(json.dumps, lines(3))))
    settings = override(PairSettings(source=(str(path),)), {"split.ratios": (0.5, 0.25, 0.25), "judge_share": 0.9})
    with pytest.raises(
        ValueError, match=r"training pairs are too few to set 90% aside for the judges.*--data.judge-share"
    ):
        prepare_pairs(settings, tmp_path / "out", 1, toxicity)


@pytest.mark.parametrize(
    ("toxic", "neutral", "rule"),
    [
        ("you idiot!", "You idiot", "identity"),
        ("a fine garden", "a garden", "source_neutral"),
        ("you idiot there", "you moron there", "target_toxic"),
        ("you idiot", "completely different words altogether", "unrelated"),
        ("you idiot and your friends over there in the garden", "you idio", "length_ratio"),
        ("idiot " * 400, "fool", "too_long"),
    ],
)
def test_each_rule_refuses_what_it_names(toxic: str, neutral: str, rule: str) -> None:
    good = pair("the idiot is here", "the man is here", row=1)
    cleaned = clean_pairs([pair(toxic, neutral), good], PairCleaningSettings(), toxicity)
    assert [reject.rule for reject in cleaned.rejects] == [rule]
    assert [kept.row for kept in cleaned.pairs] == [1]
    assert cleaned.source_toxicity_P.tolist() == [1.0]


def test_a_target_that_is_as_toxic_as_its_source_is_refused_where_asked() -> None:
    pairs = [pair("you idiot of a man", "this man"), pair("this idiot is here", "an idiot is here", row=1)]
    settings = PairCleaningSettings(most_target_toxicity=1.0)
    assert not clean_pairs(pairs, settings, toxicity).rejects
    (reject,) = clean_pairs(pairs, override(settings, {"least_drop": 0.05}), toxicity).rejects
    assert (reject.row, reject.rule) == (1, "no_drop")
    assert reject.reason == "toxicity falls by 0.00, less than 0.05"


def test_a_pair_that_came_before_is_refused_once() -> None:
    same = [pair("the idiot is here", "the man is here", row=row) for row in range(3)]
    cleaned = clean_pairs(same, PairCleaningSettings(), toxicity)
    assert [reject.row for reject in cleaned.rejects] == [1, 2]


def test_cleaning_switched_off_keeps_what_can_be_learnt() -> None:
    settings = PairCleaningSettings(enabled=False)
    cleaned = clean_pairs([pair("you idiot", "you idiot"), pair("x" * 3000, "y")], settings, toxicity)
    assert [reject.rule for reject in cleaned.rejects] == ["too_long"]


def test_without_a_scorer_the_sides_teach_one(file: Path) -> None:
    """120 sources: the fold's classifier knows the four bad words from the other folds."""
    pairs = [
        *read_pairs(PairSettings(source=(str(file),))).pairs,
        pair("the garden is open", "the garden is free", row=999),
    ]
    cleaned = clean_pairs(pairs, PairCleaningSettings())
    assert cleaned.source_toxicity_P.mean() > 0.8 > 0.3 > cleaned.target_toxicity_P.mean()


def test_difficulty_by_hand() -> None:
    """{you, are, an, idiot} and {you, are, a, person} share 2 of 6 words: overlap 1/3; 2 of 4 words are replaced: edit
    1/2; with weights 1, 1, 0.5 and toxicity 0.8 the mean is (2/3 + 1/2 + 0.4) / 2.5."""
    one = pair("You are an idiot", "you are a person")
    assert overlap(one) == pytest.approx(1 / 3)
    assert edit_distance(one) == pytest.approx(1 / 2)
    expected = (2 / 3 + 1 / 2 + 0.4) / 2.5
    assert difficulty([one], np.array([0.8]), DifficultySettings())[0] == pytest.approx(expected)


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("你是 idiot") == ["你", "是", "idiot"]
    assert words("बेवकूफ़ हो") == ["बेवकूफ़", "हो"]


def test_levels_are_thirds_of_each_language_or_fixed() -> None:
    difficulty_P = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    langs = ["en"] * 3 + ["de"] * 3
    assert levels(difficulty_P, langs, DifficultySettings()).tolist() == [0, 1, 2, 0, 1, 2]
    together = DifficultySettings(per_language=False)
    assert levels(difficulty_P, langs, together).tolist() == [0, 0, 1, 1, 2, 2]
    fixed = DifficultySettings(borders="fixed", easy_until=0.25, medium_until=0.75)
    assert levels(difficulty_P, langs, fixed).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_language_may_have_borders_of_its_own() -> None:
    difficulty_P, langs = np.array([0.1, 0.4, 0.9, 0.1, 0.4, 0.9]), ["en"] * 3 + ["de"] * 3
    own = DifficultySettings(borders="fixed", easy_until=0.5, medium_until=0.6, language_borders={"de": (0.2, 0.95)})
    assert levels(difficulty_P, langs, own).tolist() == [0, 0, 2, 0, 1, 1]
    shares = DifficultySettings(language_borders={"de": (0.7, 0.8)})
    assert levels(difficulty_P, langs, shares).tolist() == [0, 1, 2, 0, 0, 2]
    with pytest.raises(ValueError, match=r"language_borders must rise between 0 and 1, those of de were \(0.5, 0.4\)"):
        DifficultySettings(language_borders={"de": (0.5, 0.4)})
    with pytest.raises(ValueError, match="names tt, and the pairs are in de, en: leave it out"):
        levels(difficulty_P, langs, DifficultySettings(language_borders={"tt": (0.4, 0.5)}))
    with pytest.raises(ValueError, match="per_language is off"):
        DifficultySettings(language_borders={"de": (0.4, 0.5)}, per_language=False)


def test_no_source_stands_on_two_sides(tmp_path: Path) -> None:
    """Two files share sources, but for case and punctuation."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text("\n".join(map(json.dumps, lines())))
    louder = [row | {"toxic": f"{row['toxic'].upper()}!!!", "neutral": f"well, {row['neutral']}"} for row in lines()]
    second.write_text("\n".join(map(json.dumps, louder)))
    settings = PairSettings(source=(str(first), str(second)))
    prepared = prepare_pairs(settings, tmp_path / "pairs", 7, toxicity)
    groups = {name: {row.group for row in prepared.part(name)} for name in PARTS}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 120
    sources = {name: {row.toxic.lower().strip("!") for row in prepared.part(name)} for name in PARTS}
    assert sum(map(len, sources.values())) == len(set().union(*sources.values()))


def test_prepared_pairs_say_what_they_are(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    prepared = prepare_pairs(PairSettings(source=(str(file),)), folder, 1, toxicity)
    facts = prepared.facts
    assert facts["pairs_read"] == 164 == sum(facts["pairs"].values()) + sum(facts["refused"].values())
    assert facts["by_level"].keys() == {"easy", "medium", "hard"}
    rejects = pq.read_table(folder / "rejects.parquet").to_pylist()
    assert {row["rule"] for row in rejects} == {"missing_side", "malformed_row", "text_not_a_string"}
    assert all(row["reason"] for row in rejects)
    card = (folder / "README.md").read_text()
    assert "`missing_side`" in card
    assert "idiot" not in card  # the words that a rewrite leaves out are masked
    assert (folder / "plots" / "difficulty.png").stat().st_size > 1000
    again = prepare_pairs(PairSettings(source=(str(file),)), tmp_path / "again", 1, toxicity)
    assert again.digest == prepared.digest
    (folder / "test.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match="was changed"):
        PreparedPairs.open(folder)


def test_cases_have_all_references_once(file: Path, tmp_path: Path) -> None:
    prepared = prepare_pairs(PairSettings(source=(str(file),)), tmp_path / "out", 1, toxicity)
    rows = prepared.part("train")
    found = cases(rows)
    assert len(found) == len({row.group for row in rows})
    assert {len(case.references) for case in found} == {1, 2}


def test_a_named_part_is_kept_where_asked(tmp_path: Path) -> None:
    rows = [row | {"part": "test" if number % 5 == 0 else "train"} for number, row in enumerate(lines(60))]
    path = tmp_path / "named.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = PairSettings(source=(str(path),), split_column="part")
    prepared = prepare_pairs(override(settings, {"split.keep_named": True}), tmp_path / "out", 1, toxicity)
    named = {row["toxic"] for row in rows if row["part"] == "test"}
    assert {row.toxic for row in prepared.part("test")} == named


def test_nothing_left_says_what_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    path.write_text("toxic,neutral,lang\n" + "you idiot,you idiot,en\n" * 3)
    with pytest.raises(ValueError, match=r"none of the 3 pairs is left.*identity 3"):
        prepare_pairs(PairSettings(source=(str(path),)), tmp_path / "out", 1, toxicity)


def test_source_groups_ignore_case_and_punctuation() -> None:
    pairs = [pair("You idiot!", "a"), pair("you  idiot", "b"), pair("other", "c"), pair("YOU IDIOT", "d", lang="de")]
    assert source_groups(pairs).tolist() == [0, 0, 1, 0]


@pytest.mark.data
def test_real_pairs(data_folder: Path, tmp_path: Path) -> None:
    """MultiParaDetox and the English ParaDetox: nine languages, all in every part."""
    files = (str(data_folder / "multiparadetox_dev.parquet"), str(data_folder / "paradetox_en.parquet"))
    settings = PairSettings(source=files, limit=3600)
    prepared = prepare_pairs(settings, tmp_path / "out", 42)
    assert prepared.languages == ("am", "ar", "de", "en", "es", "hi", "ru", "uk", "zh")
    for name in PARTS:
        assert {row.lang for row in prepared.part(name)} == set(prepared.languages)
    kept = sum(prepared.facts["pairs"].values())
    assert kept > 0.8 * prepared.facts["pairs_read"]
