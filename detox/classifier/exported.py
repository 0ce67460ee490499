"""A classifier on a CPU by another engine than torch: ONNX Runtime in int8, OpenVINO in bfloat16.

The torch model is exported once and kept in a folder; the rest of `detox.classifier.engine` (windows, batches by
length, no text twice) stays as it is. Rounded weights move probabilities a little, so an engine is held against torch
in float32 on some texts before anybody trusts it (`parity`).

Shapes: N texts, L labels.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from detox.classifier.engine import Engine

EngineName = Literal["torch", "onnx_int8", "openvino"]
NAMES = ("input_ids", "attention_mask")
OPSET = 17

BATCH_TOKENS: dict[EngineName, int] = {"onnx_int8": 1024, "openvino": 16_384}
"""Of a forward pass, padding included; OpenVINO's is computed in parts."""
CALLS_AT_A_TIME: dict[EngineName, int] = {"onnx_int8": 1, "openvino": 2}
"""A thread of OpenVINO's that is through with its part of one batch takes one of the next."""
LEAST_TOKENS, MOST_TOKENS, LEAST_ROWS = 512, 2048, 24
"""What a part of a batch should have that one of OpenVINO's threads computes at a time; small batches have smaller
parts, one a thread. Short rows differ more in length: the smaller a part, the less padding; long ones are faster in
larger parts, and parts of fewer than `LEAST_ROWS` of them gain nothing."""
ROWS = 8
"""Where parts are twice as large or larger, cuts are at multiples of these: OpenVINO prepares for each new shape."""

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Token ids and attention mask in, logits out."""


class ExportedModel:
    """Stands in an `Engine` where a torch model would."""

    dtype = "the exported model"

    def __init__(self, config: Any, run: Run) -> None:
        self.config, self._run = config, run

    def eval(self) -> ExportedModel:
        return self

    def to(self, device: Any) -> ExportedModel:
        return self

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.from_numpy(self._run(input_ids.numpy(), attention_mask.numpy())))


def exported(engine: Engine, name: EngineName, folder: Path, threads: int) -> Engine:
    """The same classifier behind another engine.

    Args:
        engine: torch in float32 on the CPU.
        folder: keeps the exported files; those that are there already are taken, so it must be this model's alone.
        threads: of the engine.

    Raises:
        ValueError: the packages are not there, or the model is not in float32 on the CPU.
    """
    if name == "torch":
        return engine
    if engine.device.type != "cpu" or engine.model.dtype != torch.float32:
        raise ValueError(
            f"{name} is made from float32 weights on the CPU, and these are {engine.model.dtype} on {engine.device}: "
            "load the model with device cpu, dtype float32"
        )
    try:
        opened = _onnx_int8(engine, folder, threads) if name == "onnx_int8" else _openvino(engine, folder, threads)
    except ImportError as error:
        raise ValueError(f"the engine {name} needs {error.name}: pip install 'toxicity-lab[engines]'") from None
    found = Engine(
        ExportedModel(engine.model.config, opened),  # type: ignore[arg-type]
        engine.tokenizer,
        activation=engine.activation,
        max_length=engine.max_length,
        batch_tokens=BATCH_TOKENS[name],
        device="cpu",
    )
    found.calls_at_a_time = min(CALLS_AT_A_TIME[name], threads)
    return found


def _onnx_int8(engine: Engine, folder: Path, threads: int) -> Run:
    """Weights in int8 with a scale a channel, activations quantised as they come (dynamic quantisation)."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def quantised(path: Path) -> None:
        quantize_dynamic(_onnx(engine, folder), path, weight_type=QuantType.QInt8, per_channel=True)

    path = _made(folder / "model.int8.onnx", quantised)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids_BT: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
        [logits_BL] = session.run(["logits"], dict(zip(NAMES, (ids_BT, mask_BT), strict=True)))
        return np.asarray(logits_BL)

    return run


def _openvino(engine: Engine, folder: Path, threads: int) -> Run:
    """bfloat16 where the processor has it, which is OpenVINO's own choice. Each thread computes parts of a batch by
    itself: threads that share each operation would wait for each other after every one. Calls at the same time share
    the threads."""
    # without its telemetry OpenVINO takes a stub: it would tell a server elsewhere of each import, from a fork of this
    # process, which others of its threads can make hang
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads}
    model = core.compile_model(core.read_model(_onnx(engine, folder)), "CPU", settings)
    own = threading.local()

    def begin() -> None:
        own.request = model.create_infer_request()

    def logits(ids_BT: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
        own.request.infer(dict(zip(NAMES, map(np.ascontiguousarray, (ids_BT, mask_BT)), strict=True)))
        return np.array(own.request.get_tensor("logits").data)

    # in this thread first: OpenVINO's bindings make a table when they first read an array, and two threads that both
    # come to that lock each other out for good
    begin()
    logits(*(np.ones((1, 4), np.int64) for _ in NAMES))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="openvino", initializer=begin)

    def run(ids_BT: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
        tokens_B = mask_BT.sum(axis=1)
        small, large = (math.ceil(tokens_B.sum() / size) for size in (LEAST_TOKENS, MOST_TOKENS))
        count = max(large, min(small, len(tokens_B) // LEAST_ROWS))
        shares = even_parts(tokens_B, count + -count % threads)
        parts = [(rows, int(tokens_B[rows].max())) for rows in shares if len(rows)]
        done = [pool.submit(logits, ids_BT[rows, :longest], mask_BT[rows, :longest]) for rows, longest in parts]
        return np.concatenate([part.result() for part in done])

    return run


def even_parts(tokens_B: np.ndarray, count: int) -> list[np.ndarray]:
    """Rows in their order in so many parts of about as many tokens, each row where its middle is (large parts are
    rounded to `ROWS` rows); a part may be empty."""
    bounds = tokens_B.sum() * np.arange(1, count) / count
    cuts = np.searchsorted(tokens_B.cumsum() - tokens_B / 2, bounds)
    if len(tokens_B) >= 2 * ROWS * count:
        cuts = np.rint(cuts / ROWS).astype(np.int64) * ROWS
    return np.split(np.arange(len(tokens_B)), cuts)


def _onnx(engine: Engine, folder: Path) -> Path:
    return _made(folder / "model.onnx", lambda path: _export(engine, path))


@torch.inference_mode()
def _export(engine: Engine, path: Path) -> None:
    """Eager attention: the fused one has no ONNX operator before opset 23."""
    model = engine.model
    ids_BT, mask_BT = engine.pad([[5, 6, 7, 8], [5, 6]])
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        torch.onnx.export(
            model,
            (ids_BT, mask_BT),
            str(path),
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in NAMES} | {"logits": {0: "rows"}},
            opset_version=OPSET,
            dynamo=False,
        )
    finally:
        model.set_attn_implementation(attention)


def _made(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, made under another name first: another process may want it at the same time, or this one die."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as scratch:
            make(Path(scratch) / path.name)
            os.replace(Path(scratch) / path.name, path)
    return path


class Parity(NamedTuple):
    """How far an engine is from torch in float32."""

    auc: float
    """ROC-AUC of its probabilities against torch's flags, the lowest of all labels; 1: the same order."""
    flipped: float
    """Share of texts on which a flag changes."""
    largest: float
    """Largest change of a probability."""


LEAST_AUC, MOST_FLIPPED, MOST_CHANGED = 0.998, 0.02, 0.25
"""Beyond these an engine is not the model that was tested."""


def parity(ours_NL: np.ndarray, torch_NL: np.ndarray, thresholds_L: Sequence[float]) -> Parity:
    """Compare probabilities of the same texts."""
    from sklearn.metrics import roc_auc_score

    ours_flags_NL, flags_NL = ours_NL >= thresholds_L, torch_NL >= thresholds_L
    both = [column for column in range(flags_NL.shape[1]) if 0 < flags_NL[:, column].sum() < len(flags_NL)]
    aucs = [float(roc_auc_score(flags_NL[:, column], ours_NL[:, column])) for column in both]
    flipped = (ours_flags_NL != flags_NL).any(axis=1).mean()
    return Parity(min(aucs, default=1.0), float(flipped), float(np.abs(ours_NL - torch_NL).max()))


def check_parity(name: EngineName, found: Parity) -> None:
    """Raises:
    ValueError: the engine is too far from torch.
    """
    if found.auc < LEAST_AUC or found.flipped > MOST_FLIPPED or not found.largest <= MOST_CHANGED:
        raise ValueError(
            f"the engine {name} is not the model that was tested: ROC-AUC against torch's flags {found.auc:.4f} (at "
            f"least {LEAST_AUC}), flags changed on {found.flipped:.1%} of the texts (at most {MOST_FLIPPED:.0%}), "
            f"probabilities by up to {found.largest:.2f} (at most {MOST_CHANGED}): serve it with engine torch"
        )
