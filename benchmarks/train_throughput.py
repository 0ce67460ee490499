"""Real tokens a second in training: our batches by length against `transformers.Trainer` with its default collator.

Same model (MiniLM's shape, random weights), same comments, same rows a step, fp32, one process, two threads, in
alternating runs of one process. Random batches of these comments are two thirds padding; ours a few per cent.

    python -m benchmarks.train_throughput [--data FILE.parquet] [--rows 1024] [--runs 5]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from benchmarks.lines import print_line, rounds
from detox.classifier.batching import TokenisedRows, pad_rows
from detox.classifier.losses import bce
from detox.classifier.settings import TrainClassifierConfig
from detox.classifier.training import ClassifierTrainer, LabelledRows, training_arguments
from detox.models import tiny
from detox.runs.config import override
from rayjobs.train_classifier import minilm

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/jigsaw_train20k_binary.parquet", help="with text and toxic")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    table = pq.read_table(options.data, columns=["text", "toxic"]).slice(0, options.rows)
    texts = table["text"].to_pylist()
    tokenizer = tiny.build("bert", texts, vocab_size=8000).tokenizer
    tokens = TokenisedRows.of(tokenizer(texts, truncation=True, max_length=256)["input_ids"])
    rows = LabelledRows(tokens, table["toxic"].to_numpy().astype(np.float32)[:, None])
    config = override(minilm(), {"batch.per_forward": 32, "optimiser.epochs": 1, "optimiser.precision": "fp32"})
    real = int(tokens.lengths.sum())
    speeds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in rounds(options.runs):
        for who, run in (("ours", ours), ("peer", peer)):
            speeds[who].append(real / run(config, rows))
    paddings = [padding_of(config, rows)], [random_padding(tokens.lengths)]
    print_line("train_throughput", "padding share of all tokens", *paddings, better="lower", unit="share")
    print_line("train_throughput", "real tokens per second", speeds["ours"], speeds["peer"], "higher", "tokens/s")


def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=8000, num_labels=1, **MINILM))


def ours(config: TrainClassifierConfig, rows: LabelledRows) -> float:
    """Seconds of one epoch of our Trainer, without its evaluation and checkpoint."""
    one = LabelledRows(TokenisedRows.of([rows.tokens[0]]), rows.labels_NL[:1])
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(config, Path(folder), ranks=1)
        arguments.eval_strategy = arguments.save_strategy = "no"  # type: ignore[assignment]
        trainer = ClassifierTrainer(
            model=model(), args=arguments, config=config, labels=["toxic"], train=rows, validation=one, loss=bce,
            pad_id=0, callbacks=[],
        )  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def peer(config: TrainClassifierConfig, rows: LabelledRows) -> float:
    """Seconds of one epoch of the plain Trainer: random batches, each padded to its longest row."""
    items = [{"row": i} for i in range(len(rows.tokens))]

    def collate(batch: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        chosen = [item["row"] for item in batch]
        padded = pad_rows([rows.tokens[row] for row in chosen], 0)  # what DataCollatorWithPadding does, and faster
        return padded | {"labels": torch.from_numpy(rows.labels_NL[chosen])}

    network = model()
    network.config.problem_type = "multi_label_classification"
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=config.batch.size, num_train_epochs=1, use_cpu=True,
            save_strategy="no", report_to=[], disable_tqdm=True, learning_rate=config.optimiser.lr,
            remove_unused_columns=False, dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        trainer = Trainer(model=network, args=arguments, train_dataset=items, data_collator=collate)  # type: ignore[arg-type]
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def padding_of(config: TrainClassifierConfig, rows: LabelledRows) -> float:
    """Padding share of our batches over an epoch of these rows."""
    from detox.classifier.batching import global_batches

    lengths = rows.tokens.lengths
    padded = sum(len(batch) * lengths[batch].max() for batch in global_batches(lengths, config.batch, 0, 0))
    return 1 - float(lengths.sum()) / float(padded)


def random_padding(lengths: np.ndarray, rows: int = 32) -> float:
    """Padding share of random batches of these rows."""
    order = np.random.default_rng(0).permutation(len(lengths))
    batches = [order[first : first + rows] for first in range(0, len(order), rows)]
    return 1 - float(lengths.sum()) / float(sum(len(batch) * lengths[batch].max() for batch in batches))


if __name__ == "__main__":
    main()
