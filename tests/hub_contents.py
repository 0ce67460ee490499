"""What the stub hub holds: data sets and models under their real names, tiny, with the columns of their cards."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

JIGSAW_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
CIVIL_LABELS = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack", "sexual_explicit")
PERSPECTIVE_LABELS = (
    *("toxicity", "severe_toxicity", "profanity", "insult", "threat", "identity_attack", "flirtation"),
    "sexually_explicit",
)
MODELS: dict[str, str] = {"microsoft/mdeberta-v3-base": "deberta-v2", "microsoft/deberta-v3-base": "deberta-v2"}
"""Hub name to the architecture of `detox.models.tiny`."""


def write_models(base: Path, models: Mapping[str, str] = MODELS, **options: Any) -> dict[str, Path]:
    """Folder of each model (hub name to architecture), for `stub_hub(models=…)`."""
    from detox.models.tiny import write_checkpoint

    return {name: write_checkpoint(architecture, base / name, **options) for name, architecture in models.items()}


def write_pair_datasets(base: Path, rows: int) -> dict[str, Path]:
    """Folder of each data set of pairs that the recipes name, of `rows` synthetic pairs, and `pairs.jsonl`."""
    from detox.data.synthetic_pairs import generate_pairs

    pairs = list(generate_pairs(rows))

    def renamed(toxic: str, neutral: str) -> list[dict[str, Any]]:
        return [{toxic: pair["toxic"], neutral: pair["neutral"]} for pair in pairs]

    write_csv(base / "s-nlp/paradetox/train.csv", renamed("en_toxic_comment", "en_neutral_comment"))
    multi = base / "textdetox/multilingual_paradetox"
    write_parquet(multi / "data/en-00000-of-00001.parquet", renamed("toxic_sentence", "neutral_sentence"))
    files = "  - split: en\n    path: data/en-*\n"
    (multi / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    lines = ["\t".join(row.values()) for row in renamed("a", "b")]
    (base / "s-nlp/ru_paradetox").mkdir(parents=True, exist_ok=True)
    for part in "train", "dev":
        table = "\n".join(["ru_toxic_comment\tru_neutral_comment", *lines]) + "\n"
        (base / f"s-nlp/ru_paradetox/{part}.tsv").write_text(table)
    write_lines(base / "pairs.jsonl", pairs)
    return {name: base / name for name in ("s-nlp/paradetox", "textdetox/multilingual_paradetox", "s-nlp/ru_paradetox")}


def write_datasets(base: Path, rows: int = 2) -> dict[str, Path]:
    """Folder of each data set with `rows` rows a split (every other one toxic), for `stub_hub(datasets=…)`."""
    writers = {
        "google/civil_comments": write_civil_comments,
        "PleIAs/ToxicCommons": write_toxic_commons,
        "allenai/real-toxicity-prompts": write_real_toxicity_prompts,
        "tdavidson/hate_speech_offensive": write_davidson,
        "Anthropic/hh-rlhf": write_hh_rlhf,
        "knkarthick/samsum": write_samsum,
    }
    for name, write in writers.items():
        write(base / name, rows)
    return {name: base / name for name in writers}


def comment(number: int) -> str:
    return f"you idiot number {number}" if number % 2 else f"thank you for edit {number}"


def write_civil_comments(folder: Path, rows: int) -> None:
    for split in "train", "validation", "test":
        table = [{"text": f"{split}: {comment(n)}", **dict.fromkeys(CIVIL_LABELS, n % 2 * 0.75)} for n in range(rows)]
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", table)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n", encoding="utf-8")


def write_toxic_commons(folder: Path, rows: int) -> None:
    for language in "Dutch", "Latin":
        texts = [f"{language}: {comment(n)}" for n in range(rows)]
        answers = [str([0, 0, 3 * (n % 2), 0, n % 3]) for n in range(rows)]
        table = [
            {"": n, "original_text": text, "annotation": "five scores", "scores": scores}
            for n, (text, scores) in enumerate(zip(texts, answers, strict=True))
        ]
        write_csv(folder / f"annotated_{language}-PD.csv", table)


def write_real_toxicity_prompts(folder: Path, rows: int) -> None:
    write_lines(folder / "prompts.jsonl", (real_toxicity_prompt(number) for number in range(rows)))


def real_toxicity_prompt(number: int) -> dict[str, Any]:
    scores = dict.fromkeys(PERSPECTIVE_LABELS, 0.25)
    return {
        "filename": f"{number}.txt",
        "begin": 0,
        "end": 9,
        "challenging": False,
        "prompt": {"text": f"He said {number}", **scores},
        "continuation": {"text": f" {comment(number)}", **scores, "toxicity": 0.75, "flirtation": None},
    }


def write_davidson(folder: Path, rows: int) -> None:
    table = [
        {
            "count": 3,
            "hate_speech_count": 0,
            "offensive_language_count": 3 * (number % 2),
            "neither_count": 3 - 3 * (number % 2),
            "class": 2 - number % 2,
            "tweet": f"RT {comment(number)}",
        }
        for number in range(rows)
    ]
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", table)


def write_hh_rlhf(folder: Path, rows: int) -> None:
    for subset in "harmless-base", "helpful-base":
        for begin, split in (0, "train"), (rows, "test"):
            path = folder / subset / f"{split}.jsonl"
            write_lines(path, (hh_dialogues(number) for number in range(begin, begin + rows)))
            path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()


def hh_dialogues(number: int) -> dict[str, str]:
    start = f"\n\nHuman: Hi\n\nAssistant: Hello {number}\n\nHuman: Am I stupid?\n\nAssistant:"
    return {"chosen": f"{start} Not at all.", "rejected": f"{start} Yes, an idiot."}


def write_samsum(folder: Path, rows: int) -> None:
    for split in "train", "validation", "test":
        table = [
            {"id": f"{split}{n}", "dialogue": f"Ann: {split} {comment(n)}\r\nBob: ok", "summary": f"Ann wrote {n}."}
            for n in range(rows)
        ]
        write_csv(folder / f"{split}.csv", table)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
