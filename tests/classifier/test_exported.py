"""Other engines for a classifier: what torch says, to rounding; and the check that keeps a bad one from serving."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from detox.classifier.engine import Engine
from detox.classifier.exported import EngineName, Parity, check_parity, even_parts, exported, parity
from detox.models import tiny

TEXTS = ["you are an idiot", "thank you for the page", "", "stupid " * 200, "no way, you", "you are an idiot"]


def engine(architecture: str = "bert", dtype: str = "float32") -> Engine:
    options = {"num_labels": 3, "initializer_range": 0.2, "problem_type": "multi_label_classification"}
    built = tiny.build(architecture, head="sequence_classification", **options)
    return Engine(built.model.to(getattr(torch, dtype)), built.tokenizer, max_length=64, device="cpu")


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "xlm-roberta"])
@pytest.mark.parametrize(("name", "tolerance"), [("onnx_int8", 0.05), ("openvino", 0.02)])
def test_an_engine_says_what_torch_says(architecture: str, name: EngineName, tolerance: float, tmp_path: Path) -> None:
    """Windows, batches of several shapes, an empty text."""
    ours = engine(architecture)
    expected_NL = ours.probabilities(TEXTS)
    other = exported(ours, name, tmp_path, threads=1)
    found_NL = other.probabilities(TEXTS)
    np.testing.assert_allclose(found_NL, expected_NL, atol=tolerance)
    np.testing.assert_array_equal(found_NL[0], found_NL[5])
    several_NL = exported(ours, name, tmp_path, threads=4).probabilities(TEXTS)
    np.testing.assert_allclose(several_NL, expected_NL, atol=tolerance)
    np.testing.assert_array_equal(ours.probabilities(TEXTS), expected_NL)  # torch is as it was


def test_openvino_tells_nobody_and_its_threads_begin_together(tmp_path: Path) -> None:
    """In a process of its own, whose threads take turns so often that a deadlock at their first use is likely to show.
    The variables and the file by which it would not be told anyway are away."""
    code = """
import pathlib, sys
told = []
sys.addaudithook(lambda event, given: told.append(event) if event in {"os.fork", "socket.connect"} else None)
from detox.classifier.exported import exported
from tests.classifier.test_exported import TEXTS, engine
ours = exported(engine(), "openvino", pathlib.Path(sys.argv[1]), threads=2)
sys.setswitchinterval(1e-6)
texts = [f"{text} {turn}" for turn in range(40) for text in TEXTS]
print(ours.probabilities(texts).shape, ours.calls_at_a_time, told)
"""
    kept = {key: value for key, value in os.environ.items() if key not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=kept | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.stdout.splitlines()[-1:] == ["(240, 3) 2 []"], finished.stderr


def test_calls_at_the_same_time_get_their_own_answers(tmp_path: Path) -> None:
    ours = exported(engine(), "openvino", tmp_path, threads=2)
    texts = [[f"you {word} " * times for times in range(1, 30)] for word in ("idiot", "page", "stupid", "thank")]
    expected = [ours.probabilities(some) for some in texts]
    with ThreadPoolExecutor(4) as pool:
        for found_NL, expected_NL in zip(pool.map(ours.probabilities, texts * 5), expected * 5, strict=True):
            np.testing.assert_allclose(found_NL, expected_NL, atol=1e-3)


def test_parts_hold_about_as_many_tokens_in_order() -> None:
    for tokens, count, expected in (
        ([1, 1, 1, 1, 4], 2, [[0, 1, 2, 3], [4]]),
        ([9, 1, 1], 2, [[0], [1, 2]]),
        ([2], 3, [[], [0], []]),
        ([1] * 6, 3, [[0, 1], [2, 3], [4, 5]]),
        ([1] * 34, 2, [list(range(16)), list(range(16, 34))]),
    ):
        assert [rows.tolist() for rows in even_parts(np.array(tokens), count)] == expected


def test_what_is_exported_once_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = engine()
    first_NL = exported(ours, "onnx_int8", tmp_path, threads=1).probabilities(TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.int8.onnx", "model.onnx"]
    monkeypatch.setattr("torch.onnx.export", None)
    np.testing.assert_array_equal(exported(ours, "onnx_int8", tmp_path, threads=1).probabilities(TEXTS), first_NL)


def test_torch_is_taken_as_it_is_and_rounded_weights_are_refused(tmp_path: Path) -> None:
    ours = engine()
    assert exported(ours, "torch", tmp_path, threads=1) is ours
    with pytest.raises(ValueError, match="load the model with device cpu, dtype float32"):
        exported(engine(dtype="bfloat16"), "onnx_int8", tmp_path, threads=1)


def test_parity_by_hand() -> None:
    """Two labels, thresholds 0.5: the first label's order holds but for one pair of four (AUC 0.75, as one of the two
    flagged texts stands below one of the two others); one text of four changes a flag; the largest change is 0.3."""
    torch_NL = np.array([[0.9, 0.1], [0.6, 0.1], [0.4, 0.1], [0.1, 0.1]], np.float32)
    ours_NL = torch_NL.copy()
    ours_NL[1, 0] = 0.3
    found = parity(ours_NL, torch_NL, [0.5, 0.5])
    assert found.auc == pytest.approx(0.75)
    assert found.flipped == pytest.approx(0.25)
    assert found.largest == pytest.approx(0.3, abs=1e-6)
    with pytest.raises(ValueError, match=r"ROC-AUC against torch's flags 0\.7500 .* serve it with engine torch"):
        check_parity("onnx_int8", found)
    check_parity("onnx_int8", Parity(auc=0.9995, flipped=0.01, largest=0.14))
    with pytest.raises(ValueError, match=r"flags changed on 3\.0%"):
        check_parity("onnx_int8", Parity(auc=1.0, flipped=0.03, largest=0.1))
    for largest in (0.3, float("nan")):
        with pytest.raises(ValueError, match=r"probabilities by up to (0\.30|nan) \(at most 0\.25\)"):
            check_parity("onnx_int8", Parity(auc=1.0, flipped=0.0, largest=largest))


def test_without_flags_the_order_is_no_question() -> None:
    scores_NL = np.full((3, 1), 0.1, np.float32)
    assert parity(scores_NL, scores_NL, [0.5]) == Parity(1.0, 0.0, 0.0)
