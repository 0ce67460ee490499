"""The body of `rayjobs.evaluate rewriters`: load, rewrite, judge, report. Runs on one node, with or without Ray.

What a rewriter made in a variant is written to `systems/` of the run as soon as it is there, under the digest of the
rewriter's files and of the cases, and taken from there when the run goes on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import logging

from detox.classifier.report import run_facts
from detox.data.pairs.prepared import PARTS, Case, PairRow, PreparedPairs, cases
from detox.evaluation.pan_judges import PAN
from detox.governance.manifest import file_digests
from detox.rewriter.artifact import LEXICON, read_facts, rewriter_folder
from detox.rewriter.comparison import (
    Outputs,
    baselines,
    check_judges,
    judged,
    judges_named,
    line_of,
    outputs_table,
    rewritten,
    summary_of,
    system_name,
)
from detox.rewriter.comparison_settings import EvaluateRewritersConfig
from detox.rewriter.face import Rewriter
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.overlap import judges_notice, learned_from, overlap_notice
from detox.rewriter.pieces import in_its_space, pieces
from detox.rewriter.reference_loss import reference_loss
from detox.rewriter.remote import RemoteError, RemoteRewriter
from detox.rewriter.remote import check as check_remote
from detox.rewriter.report import comparison_report, synthetic_notices
from detox.runs.config import digest
from detox.runs.environment import with_worker
from detox.runs.progress import say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

REMOTE = "remote"
"""The system of an endpoint's answers."""
REMOTE_CHUNK = 64
"""Cases whose answers are kept together."""


def check_config(config: EvaluateRewritersConfig) -> None:
    """What can be known to fail before any work.

    Raises:
        ValueError: see `named_rewriters`; judges that are not there, a test file without pairs beside it to learn from,
            or a primary system that there will not be.
    """
    check_judges(config.judges)
    systems = [system_name(name, variant) for name in named_rewriters(config) for variant in config.variants]
    if config.remote.base_url:
        check_remote(config.remote)
        systems.append(REMOTE)
    if config.primary and config.primary not in systems:
        raise ValueError(f"there is no system {config.primary!r}: --primary is one of {', '.join(systems)}")
    if config.all_rows_are_test and not config.learn_from.source:
        raise ValueError(
            "all pairs of --data.source are test, and the offline judges (and an endpoint's delete) learn from others: "
            "name some with --learn-from.source, for example those that the rewriter was trained on"
        )


class Named(NamedTuple):
    """A rewriter that is compared."""

    given: str
    """As the config names it."""
    folder: Path
    """Its artifact; of a remote one a copy."""


def named_rewriters(config: EvaluateRewritersConfig) -> dict[str, Named]:
    """The rewriters by their names in the report.

    Raises:
        ValueError: none is given and no endpoint either, one is not there, or two have one name.
    """
    if not config.rewriters and not config.remote.base_url:
        raise ValueError("no rewriter is given: name run directories of train_rewriter with --rewriters")
    found: dict[str, Named] = {}
    for rewriter in config.rewriters:
        folder, name = rewriter_folder(rewriter), name_of(rewriter)
        read_facts(folder)
        if name in found:
            raise ValueError(f"--rewriters names {name!r} twice: {found[name].given} and {rewriter}; rename one run")
        found[name] = Named(rewriter, folder)
    return found


def name_of(rewriter: str) -> str:
    """The run's name: the folder's, or that of the one above `artifact`."""
    path = rewriter if "://" in rewriter else str(Path(rewriter).expanduser().resolve())
    *above, name = path.rstrip("/").split("/")
    return above[-1] if name == "artifact" and above else name


def compare(config: EvaluateRewritersConfig, recipe: str, run_uri: str, tested_uri: str, learned_uri: str) -> None:
    """Rewrite with each rewriter in each variant, judge, and write outputs, summary and report.

    Args:
        tested_uri: prepared pairs, whose test part (or all) is tested on.
        learned_uri: prepared pairs whose judge part teaches the judges, and whose train part delete's lexicon where no
            rewriter has one.

    Raises:
        ValueError: there is nothing to test on, or nothing to learn from.
    """
    logging.disable_progress_bar()
    run = RunDirectory(Storage(run_uri))
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    names = named_rewriters(config)
    with tempfile.TemporaryDirectory(prefix="detox-compare-") as scratch:
        tested, learned = (
            PreparedPairs.open(_local(uri, Path(scratch), at)) for at, uri in enumerate((tested_uri, learned_uri))
        )
        wanted = tested_cases(config, tested)
        train, judge_rows = learned.part("train"), learned.part("judge")
        judges = judges_named(config.judges, judge_rows, config.embed_english)
        lexicon = Lexicon.fit(_columns(judge_rows or train))
        say(run, f"judging {len(wanted):,} texts in {', '.join(sorted({case.lang for case in wanted}))}")
        owner = deleter(config, names)
        deleting = Lexicon.load(names[owner].folder / LEXICON) if owner else Lexicon.fit(_columns(train))
        systems = baselines(wanted, judges, lexicon, deleting)
        if config.remote.base_url:
            systems.append(judged(REMOTE, remote_outputs(config, run, wanted), wanted, judges, lexicon))
            say(run, line_of(systems[-1]))
        losses: dict[str, float] = {}
        for name, rewriter in names.items():
            made_by, losses[name] = outputs_of(config, run, rewriter.folder, wanted)
            for variant, outputs in made_by.items():
                systems.append(judged(system_name(name, variant), outputs, wanted, judges, lexicon))
                say(run, line_of(systems[-1]))
        said = (*synthetic_notices(tested.facts), *notices(config, names, tested, wanted, judge_rows))
        facts = run_facts(run, "evaluate", recipe, config, tested.facts, notices=said)
        page = comparison_report(
            systems,
            wanted,
            judges,
            [],
            facts,
            primary=config.primary,
            lexicon=lexicon,
            samples=config.samples,
            losses=losses,
        )
        made = Path(scratch) / "made"
        made.mkdir()
        outputs_table(systems, wanted, made / "outputs.parquet")
        run.storage.add_files(made)
    run.storage.write_text("report.html", page.render())
    flat = summary_of(systems, primary=config.primary, losses=losses) | {"pairs": tested.digest}
    run.write_json("summary.json", flat)


def deleter(config: EvaluateRewritersConfig, names: dict[str, Named]) -> str:
    """Whose lexicon says what delete takes out: that of the rewriter which the verdict is about, so that both know the
    same words; empty where it is about an endpoint: then that of the pairs at hand."""
    if config.primary == REMOTE:
        return ""
    return config.primary.rpartition("/")[0] or next(reversed(names), "")


def notices(
    config: EvaluateRewritersConfig,
    names: dict[str, Named],
    tested: PreparedPairs,
    wanted: Sequence[Case],
    judge_rows: Sequence[PairRow],
) -> list[str]:
    """What a reader must know of the rewriters before their figures: whose words delete knows, what was made up, and
    who has seen the test or what the judges learned from."""
    found = list[str]()
    if len(names) > 1 and (owner := deleter(config, names)):
        found.append(f"delete takes out the words that {owner} learned as toxic.")
    held_out = not config.all_rows_are_test
    learned = {name: learned_from(rewriter.given) for name, rewriter in names.items()}
    if synthetic := [name for name, known in learned.items() if known and known.is_synthetic]:
        whose = "their" if len(synthetic) > 1 else "its"
        found.append(
            f"{', '.join(synthetic)} learned from synthetic pairs: {whose} figures say nothing about real text."
        )
    for name, rewriter in names.items():
        known = learned[name]
        seen = known.sources if known else None
        found.append(overlap_notice(name, str(rewriter.folder), seen, tested, wanted, held_out=held_out))
        if config.judges not in PAN:
            found.append(judges_notice(name, seen, judge_rows))
    return list(filter(None, found))


def tested_cases(config: EvaluateRewritersConfig, tested: PreparedPairs) -> list[Case]:
    """What is rewritten: the test part, or all pairs in their order.

    Raises:
        ValueError: there is none.
    """
    rows = tested.part("test")
    if config.all_rows_are_test:
        rows = sorted((row for part in PARTS for row in tested.part(part)), key=lambda row: row.row)
    if not rows:
        raise ValueError("the pairs have no test part: set data.split.ratios, or --all-rows-are-test True")
    return cases(rows)


def outputs_of(
    config: EvaluateRewritersConfig, run: RunDirectory, folder: Path, wanted: Sequence[Case]
) -> tuple[dict[str, Outputs], float]:
    """What a rewriter makes of the cases in each variant, and its loss on their references: made now, or kept by this
    run."""
    asked = [[case.lang, case.source, *case.references] for case in wanted]
    identity = {"files": file_digests(folder), "cases": digest(asked)}
    kept = run.storage.child("systems")
    loaded: list[Rewriter] = []

    def found(what: str, make: Callable[[Rewriter], Any]) -> Any:
        file = f"{digest(identity | {'what': what})[:16]}.json"
        if not kept.exists(file):
            if not loaded:
                loaded.append(Rewriter.load(str(folder)))
            value = make(loaded[0])
            plain = value._asdict() if isinstance(value, Outputs) else value
            kept.write_text(file, json.dumps(plain, ensure_ascii=False))
        return json.loads(kept.read_text(file))

    made: dict[str, Outputs] = {}
    for variant in config.variants:
        made[variant] = Outputs(**found(variant, partial(rewritten, cases=wanted, variant=variant)))
    return made, found("loss", partial(reference_loss, cases=wanted))


def remote_outputs(config: EvaluateRewritersConfig, run: RunDirectory, wanted: Sequence[Case]) -> Outputs:
    """The first answer of an endpoint to each case, a long one sentence by sentence; neither reranked nor edited.

    Answers are kept after every `REMOTE_CHUNK` cases, so that a run that goes on does not pay for them again.

    Raises:
        RemoteError: an endpoint that fails, whose budget is used up, or that gives no answer.
    """
    remote = RemoteRewriter(config.remote)
    kept = run.storage.child("systems")
    identity = config.remote.model_dump(mode="json", exclude={"limits"})

    texts: list[str] = []
    for begin in range(0, len(wanted), REMOTE_CHUNK):
        part = wanted[begin : begin + REMOTE_CHUNK]
        file = f"{digest({'remote': identity, 'cases': [[case.lang, case.source] for case in part]})[:16]}.json"
        if not kept.exists(file):
            try:
                kept.write_text(file, json.dumps(answered(remote, part), ensure_ascii=False))
            except RemoteError as error:
                raise error.at(begin + error.position) from error
        texts += json.loads(kept.read_text(file))
    return Outputs(texts, [REMOTE] * len(texts))


def answered(remote: RemoteRewriter, wanted: Sequence[Case]) -> list[str]:
    """An endpoint's first answer to each case.

    Raises:
        RemoteError: its `position` is that of the case.
    """
    sources, langs = [case.source for case in wanted], [case.lang for case in wanted]

    def cut(text: str, lang: str) -> list[str]:
        return pieces(text, lambda parts: remote.too_long(parts, [lang] * len(parts)))

    long = remote.too_long(sources, langs)
    parts = [cut(*row) if is_long else [row[0]] for *row, is_long in zip(sources, langs, long, strict=True)]
    owners = [at for at, mine in enumerate(parts) for piece in mine if piece.strip()]
    asked = [piece for mine in parts for piece in mine if piece.strip()]
    try:
        answers = iter(remote.candidates(asked, [langs[at] for at in owners]))
    except RemoteError as error:
        raise error.at(owners[error.position]) from error
    return [
        "".join(in_its_space(piece, next(answers)[0]) if piece.strip() else piece for piece in mine) for mine in parts
    ]


def _local(uri: str, scratch: Path, number: int) -> Path:
    """Prepared pairs on the local disk; two of the same name do not meet."""
    place = scratch / str(number)
    place.mkdir()
    return Storage(uri).localise(place)


def _columns(rows: Sequence[PairRow]) -> list[tuple[str, str, str]]:
    return [(row.lang, row.toxic, row.neutral) for row in rows]
