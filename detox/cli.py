"""`detox classify`, `detox rewrite` and `detox explain`: texts in, JSON lines out. `detox merge`: adapters to a model.

A text comes from the arguments, from a file (one text a line), or from standard input (`-`). Files of any size pass
through in chunks. Errors go to standard error with exit status 2. torch is imported after the arguments are read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

Line = dict[str, Any]

CHUNK = 1024
"""Texts in memory at a time."""

METHODS = ("integrated_gradients", "shap", "attention")
CLASSIFIERS = "run directory, owner/name@revision, detoxify/original, tfidf:FOLDER, lexicon:FILE, tiny/bert"
REWRITERS = "run directory of train_rewriter, or its artifact"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `detox classify … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        print(f"detox {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detox", description="Text toxicity: scores, rewrites and explanations as JSON lines."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    classify = commands.add_parser("classify", help="probabilities and flags of texts")
    rewrite = commands.add_parser("rewrite", help="texts without their toxicity")
    explain = commands.add_parser("explain", help="which words made a score")
    for command in (classify, rewrite, explain):
        command.add_argument("text", nargs="*", help="a text each, or - for standard input")
        command.add_argument("--file", type=Path, help="a UTF-8 file with one text a line")
        models = REWRITERS if command is rewrite else CLASSIFIERS
        command.add_argument("--model", required=True, help=models)
        command.add_argument("--device", default="", help="for example cuda:1 (default: the GPU where there is one)")
    for command in (classify, explain):
        command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    rewrite.add_argument("--lang", help="ISO 639-1 code of all texts (default: detected, text by text)")
    explain.add_argument("--label", default="", help="which label (default: the one with the highest score)")
    explain.add_argument("--method", choices=METHODS, default=METHODS[0])
    explain.add_argument("--html", type=Path, help="also write the last text's heat map to this file")
    merge = commands.add_parser("merge", help="adapters of a language model, added to their base")
    merge.add_argument("model", help="run directory of finetune or align_policy, its artifact, or owner/name@revision")
    merge.add_argument("folder", type=Path, help="where the whole model goes")
    merge.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.command == "merge":
        from detox.models.merging import merge

        print(json.dumps({"model": str(merge(options.model, options.folder, options.dtype))}))
        return
    texts = _texts(options)
    from transformers.utils import logging

    logging.disable_progress_bar()
    for line in COMMANDS[options.command](texts, options):
        # what is no UTF-8 in an argument becomes its JSON escape
        print(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


def _texts(options: argparse.Namespace) -> Iterator[str]:
    """The texts to read, lazily; which source it is, is settled at once.

    Raises:
        ValueError: none, or two sources.
        OSError: the file cannot be opened.
    """
    if bool(options.text) == bool(options.file):
        raise ValueError("give either texts (or - for standard input) or --file")
    if options.file:
        return _lines(options.file.open(encoding="utf-8", newline="\n"), str(options.file))
    if options.text == ["-"]:
        return _lines(open(sys.stdin.fileno(), encoding="utf-8", newline="\n", closefd=False), "standard input")
    return iter(options.text)


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    with stream:
        try:
            for line in stream:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not UTF-8 ({error}): convert it, for example with iconv") from None


def _classified(texts: Iterator[str], options: argparse.Namespace) -> Iterator[Line]:
    from detox.classifier.face import Classifier

    classifier = Classifier.load(options.model, device=options.device, dtype=options.dtype)
    while chunk := list(islice(texts, CHUNK)):
        for text, row in zip(chunk, classifier.predict(chunk), strict=True):
            probabilities = {label: round(value, 6) for label, value in row.probabilities.items()}
            yield {"text": text, "probabilities": probabilities, "flags": list(row.flags)}


def _rewritten(texts: Iterator[str], options: argparse.Namespace) -> Iterator[Line]:
    from detox.rewriter.face import Rewriter

    rewriter = Rewriter.load(options.model, device=options.device)
    while chunk := list(islice(texts, CHUNK)):
        for text, row in zip(chunk, rewriter.rewrite(chunk, options.lang), strict=True):
            figures = ("toxicity_before", "toxicity_after", "similarity")
            yield {"text": text, "rewritten": row.text, "how": row.how} | {
                name: round(getattr(row, name), 6) for name in figures
            }


def _explained(texts: Iterator[str], options: argparse.Namespace) -> Iterator[Line]:
    from detox.classifier.face import Classifier

    classifier = Classifier.load(options.model, device=options.device, dtype=options.dtype)
    for text in texts:
        explanation = classifier.explain(text, options.label, options.method)
        if options.html:
            options.html.write_text(explanation.to_html(), encoding="utf-8")
        yield explanation.to_dict()


COMMANDS: dict[str, Callable[[Iterator[str], argparse.Namespace], Iterator[Line]]] = {
    "classify": _classified,
    "rewrite": _rewritten,
    "explain": _explained,
}
