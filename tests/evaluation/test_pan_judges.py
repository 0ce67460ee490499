"""The shared tasks' own judges: loaded by their real names from a stub hub, and XCOMET's formula by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline

from detox.evaluation.pan_judges import CLASSIFIERS, LABSE, PAN2024, PAN2025, TOKENIZERS
from detox.evaluation.xcomet import ENCODER, NAME, XComet, errors_score, predict
from detox.models import tiny
from tests.hub import StubHub, run_python

TEXTS = ["you are an idiot", "thank you for the edit"]
JUDGE = """
import json, sys
from detox.evaluation.pan_judges import pan_judges, pan_neutrality
texts = json.loads(sys.argv[1])
found = {}
for year in ("pan2024", "pan2025"):
    judges, langs = pan_judges(year), ["en"] * len(texts)
    found[year] = {
        "names": judges.names(),
        "neutral": judges.neutrality.judge(texts, langs).tolist(),
        "similarity": judges.similarity.judge(texts, texts[::-1], langs).tolist(),
        "same": judges.similarity.judge(texts, texts, langs).tolist(),
        "fluency": judges.fluency.judge(texts, texts, texts, langs).tolist(),
    }
try:
    pan_neutrality("textdetox/gone")
except ValueError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


def heads(width: int, layers: int) -> dict[str, torch.Tensor]:
    """XCOMET's heads with small hidden layers, under the names of unbabel-comet."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"estimator.ff.0": (8, width), "estimator.ff.3": (6, 8), "estimator.ff.6": (1, 6), "hidden2tag": (4, width)}
    made = {"layerwise_attention.gamma": torch.ones(1)}
    for number in range(layers + 1):
        made[f"layerwise_attention.scalar_parameters.{number}"] = torch.rand(1, generator=generator)
    for name, (outputs, inputs) in sizes.items():
        made[f"{name}.weight"] = torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)
        made[f"{name}.bias"] = torch.zeros(outputs)
    return made


def write_xcomet(encoder: Path, folder: Path) -> None:
    layers = AutoConfig.from_pretrained(encoder).num_hidden_layers
    weights = load_file(encoder / "model.safetensors")
    folder.mkdir(parents=True)
    named = {f"encoder.model.{name}": value for name, value in weights.items()}
    save_file(named | heads(32, layers), folder / "model.safetensors")


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("pan")
    options = {"head": "sequence_classification", "num_labels": 2, "initializer_range": 0.5}
    for seed, name in enumerate(CLASSIFIERS.values()):
        tiny.write_checkpoint("xlm-roberta", base / name, seed=seed, **options)
    tiny.write_checkpoint("xlm-roberta", base / TOKENIZERS[PAN2025])
    tiny.write_checkpoint("bert", base / LABSE, initializer_range=0.5)
    (base / LABSE / "2_Dense").mkdir()
    dense = torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) / 4
    save_file({"linear.weight": dense, "linear.bias": torch.zeros(32)}, base / LABSE / "2_Dense" / "model.safetensors")
    tiny.write_checkpoint("deberta-v2", base / ENCODER, num_hidden_layers=9)
    write_xcomet(base / ENCODER, base / NAME)
    names = (*CLASSIFIERS.values(), TOKENIZERS[PAN2025], LABSE, ENCODER, NAME)
    return {name: base / name for name in names}


def test_official_models_judge_by_their_hub_names(
    repos: dict[str, Path], serve_hub: Callable[..., StubHub], tmp_path: Path
) -> None:
    found = json.loads(run_python(serve_hub(models=repos), JUDGE, json.dumps(TEXTS)).splitlines()[-1])
    for year in (PAN2024, PAN2025):
        classifier = pipeline("text-classification", str(repos[CLASSIFIERS[year]]), top_k=None, device="cpu")
        expected = [{one["label"]: one["score"] for one in row}["LABEL_0"] for row in classifier(TEXTS)]
        assert found[year]["neutral"] == pytest.approx(expected, abs=1e-5)
        assert found[year]["same"] == pytest.approx([1, 1], abs=1e-5)
        assert found[year]["similarity"] == pytest.approx([labse_cosine(repos[LABSE])] * 2, abs=1e-5)
        assert found[year]["names"]["neutrality"] == f"{CLASSIFIERS[year]}@01234567"
    assert all(map(math.isnan, found[PAN2024]["fluency"]))  # chrF stands in its place
    assert found[PAN2025]["names"]["fluency"] == f"{NAME}@01234567"
    assert all(math.isfinite(value) and value <= 1 for value in found[PAN2025]["fluency"])
    assert "textdetox/gone is neither a folder here nor a public model of the hub" in found["error"]


def labse_cosine(folder: Path) -> float:
    """Of the two texts: the first token's state through the dense layer and tanh."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    dense = load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"]
    with torch.inference_mode():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0] for text in TEXTS]
        return float(torch.cosine_similarity(*((state @ dense.T).tanh() for state in states), dim=0))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 0, 0], 1.0),
        ([0, 1, 1, 0], 24 / 25),  # one minor error of two tokens
        ([0, 2, 1, 0, 3, 0], (25 - 5 - 10) / 25),  # a run has the severity of its first token
        ([0, 3, 0, 3, 0, 3, 0], 0.0),  # 30, cut at 25
        ([0, 2, 2], 1.0),  # unbabel-comet counts a run once it has ended
    ],
)
def test_errors_make_a_score(labels: list[int], expected: float) -> None:
    assert errors_score(labels) == pytest.approx(expected)


def xcomet(repos: dict[str, Path], **changes: torch.Tensor) -> XComet:
    weights = load_file(repos[NAME] / "model.safetensors")
    return XComet(AutoConfig.from_pretrained(repos[ENCODER]), weights | changes).eval()


def test_xcomet_weighs_scores_and_errors(repos: dict[str, Path]) -> None:
    """With heads that answer with their bias: 0.5 three times and no error, 0.78 · 0.5 + 0.22 · 1 = 0.61. A score of 3
    counts as 1: 0.78 + 0.22 = 1."""
    tokenizer = AutoTokenizer.from_pretrained(repos[ENCODER])
    zeros = {"estimator.ff.6.weight": torch.zeros(1, 6), "hidden2tag.weight": torch.zeros(4, 32)}
    none = {"hidden2tag.bias": torch.tensor([9.0, 0, 0, 0])}
    for bias, expected in ((0.5, 0.61), (3.0, 1.0)):
        model = xcomet(repos, **zeros, **none, **{"estimator.ff.6.bias": torch.tensor([bias])})
        assert predict(model, tokenizer, TEXTS, TEXTS, TEXTS).tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_xcomet_gives_a_row_the_same_in_any_batch(repos: dict[str, Path]) -> None:
    """Padding changes nothing, and the three texts have different places."""
    tokenizer = AutoTokenizer.from_pretrained(repos[ENCODER])
    model = xcomet(repos)
    short, long = "you", "thank you for the edit of the article about bridges"
    both = predict(model, tokenizer, [short, long], [long, short], [short, short])
    alone = [predict(model, tokenizer, [a], [b], [short])[0] for a, b in ((short, long), (long, short))]
    assert both.tolist() == pytest.approx(alone, abs=1e-5)
    swapped = predict(model, tokenizer, [long], [short], [long])
    assert swapped[0] != pytest.approx(alone[1], abs=1e-4)
