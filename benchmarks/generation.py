"""Our greedy generation against `model.generate` on unsorted batches of the same size: same weights, same texts.

`python -m benchmarks.generation [--data FILE] [--texts 1000] [--runs 5] [--model small]` generates in alternating
runs from a T5 with random weights, which costs the time of a trained one. Random weights do not know when to stop, so
a control that both sides get ends each text where its human rewrite ends (column `neutral`): lengths, and how they go
with the sources' lengths, are those of real rewrites. The peer gets its texts in the order of the file, in batches of
as many rows as ours hold on average, and no `max_new_tokens` below what the longest rewrite needs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.lines import print_line, rounds

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 32},
    "small": {"hidden": 256, "num_layers": 4, "num_heads": 4, "d_kv": 64, "d_ff": 512, "vocab_size": 16_000},
    "t5-small": {"hidden": 512, "num_layers": 6, "num_heads": 8, "d_kv": 64, "d_ff": 1024, "vocab_size": 32_128},
}
"""`small` lets five runs of 1,000 texts end in ten minutes on two cores."""
MOST_TOKENS = 200


class Work(NamedTuple):
    model: Any
    rows: list[list[int]]
    """Source token ids."""
    lengths: list[int]
    """Tokens of the human rewrites, EOS included."""


class Run(NamedTuple):
    seconds: float
    tokens: list[list[int]]
    decoder_rows: int


def main(arguments: list[str] | None = None) -> None:
    import torch

    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    work = _work(options)
    size = _rows_of_a_batch(work)
    _ours(work), _peer(work, size)  # what is paid once is paid here
    runs = [(_measured(work, _ours, work), _measured(work, _peer, work, size)) for _ in rounds(options.runs)]
    _report(*zip(*runs, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__)
    parser.add_argument("--data", default="../shared/data/paradetox_en.parquet", help="parquet: `toxic`, `neutral`")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", choices=tuple(SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    return parser


def _work(options: argparse.Namespace) -> Work:
    import pyarrow.parquet as pq
    import torch

    from detox.models import tiny

    table = pq.read_table(options.data, columns=["toxic", "neutral"]).slice(0, options.texts)
    toxic, neutral = (table[column].to_pylist() for column in ("toxic", "neutral"))
    tokenizer = tiny.build_tokenizer("t5", [*toxic, *neutral], vocab_size=8000)
    sizes = {"vocab_size": len(tokenizer)} | SIZES[options.model]
    torch.manual_seed(0)
    model = tiny.HEADS["seq2seq_lm"].from_config(tiny.build_config("t5", tokenizer, **sizes))
    with torch.no_grad():
        # scores of ordinary size: T5's random ones are so far apart that exp of them is subnormal, which is slow
        model.lm_head.weight *= model.config.d_model**-0.5
    cut = {"truncation": True, "max_length": MOST_TOKENS}
    lengths = [len(ids) for ids in tokenizer(neutral, **cut)["input_ids"]]
    return Work(model.eval().to(options.device), tokenizer(toxic, **cut)["input_ids"], lengths)


def _ends(lengths: Sequence[int], eos: int, device: Any) -> Any:
    """A control under which row i has `lengths[i]` tokens, the last of them EOS."""
    import torch

    from detox.rewriter.control import Step

    lengths_N = torch.tensor(lengths, device=device)

    def control(step: Step, scores_RV: torch.Tensor) -> torch.Tensor:
        ends_R = lengths_N[step.rows_R] <= step.prefixes_Rt.shape[1]
        scores_RV[:, eos] = torch.where(ends_R, torch.inf, -torch.inf)
        return scores_RV

    return control


def _settings() -> Any:
    from detox.rewriter.generation_settings import GenerationSettings

    return GenerationSettings(max_new_tokens=MOST_TOKENS)


def _rows_of_a_batch(work: Work) -> int:
    """How many rows our batches hold on average."""
    batches = 0

    def count(*_: Any) -> None:
        nonlocal batches
        batches += 1

    with work.model.encoder.register_forward_hook(count):
        _ours(work)
    return round(len(work.rows) / batches)


def _ours(work: Work) -> list[list[int]]:
    from detox.rewriter.generation import generate

    control = _ends(work.lengths, work.model.config.eos_token_id, work.model.device)
    return [found[0].tokens for found in generate(work.model, work.rows, _settings(), [control])]


def _peer(work: Work, size: int) -> list[list[int]]:
    import numpy as np
    from transformers import LogitsProcessorList

    from detox.classifier.batching import pad_rows
    from detox.rewriter.control import as_logits_processor

    eos, found = work.model.config.eos_token_id, list[list[int]]()
    for first in range(0, len(work.rows), size):
        part = slice(first, first + size)
        padded = pad_rows([np.asarray(row) for row in work.rows[part]], work.model.config.pad_token_id)
        control = _ends(work.lengths[part], eos, work.model.device)
        generated = work.model.generate(
            **{name: tensor.to(work.model.device) for name, tensor in padded.items()},
            max_new_tokens=MOST_TOKENS,
            do_sample=False,
            logits_processor=LogitsProcessorList([as_logits_processor(control)]),
        )
        found += [row[1 : row.index(eos)] for row in generated.tolist()]
    return found


def _measured(work: Work, generating: Any, *arguments: Any) -> Run:
    """Timed, with the rows that passed through the decoder."""
    rows = 0

    def count(_: Any, inputs: Any, keywords: dict[str, Any]) -> None:
        nonlocal rows
        rows += len(keywords["input_ids"])

    with work.model.decoder.register_forward_pre_hook(count, with_kwargs=True):
        start = time.perf_counter()
        tokens = generating(*arguments)
        return Run(time.perf_counter() - start, tokens, rows)


def _report(ours: Sequence[Run], peer: Sequence[Run]) -> None:
    same = [sum(a == b for a, b in zip(o.tokens, p.tokens, strict=True)) for o, p in zip(ours, peer, strict=True)]
    texts = len(ours[0].tokens)
    print_line("generation", "texts with the same tokens", same, [texts] * len(same), "higher", "texts")
    rows = [[run.decoder_rows / texts for run in runs] for runs in (ours, peer)]
    print_line("generation", "decoder rows a text", *rows, "lower", "rows")
    rates = [[texts / run.seconds for run in runs] for runs in (ours, peer)]
    print_line("generation", "texts per second, greedy", *rates, "higher", "texts/s")


if __name__ == "__main__":
    main()
