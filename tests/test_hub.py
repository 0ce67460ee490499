"""The stub hub serves models to the very code that a user runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hub import StubHub, run_python
from tests.hub_contents import write_models

LOAD = """
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("microsoft/mdeberta-v3-base", revision="f" * 40)
model = AutoModel.from_pretrained("microsoft/mdeberta-v3-base")
batch = tokenizer(["You are an idiot."], return_tensors="pt")
print(type(model).__name__, type(tokenizer).__name__, tuple(model(**batch).last_hidden_state.shape)[0])
for name in "microsoft/nowhere", "meta-llama/Llama-3.1-8B":
    try:
        AutoModel.from_pretrained(name)
    except OSError as error:
        print(str(error).splitlines()[0])
"""


def test_a_model_loads_under_its_real_name(tmp_path: Path, serve_hub: Callable[..., StubHub]) -> None:
    models = write_models(tmp_path, {"microsoft/mdeberta-v3-base": "deberta-v2"})
    hub = serve_hub(models=models, gated=["meta-llama/Llama-3.1-8B"])
    loaded, unknown, gated = run_python(hub, LOAD).strip().split("\n")
    assert loaded.startswith("DebertaV2Model DebertaV2Tokenizer")
    assert loaded.endswith(" 1")
    assert "microsoft/nowhere is not a local folder and is not a valid model identifier" in unknown
    assert "gated repo" in gated
    assert any(request.endswith("model.safetensors") for request in hub.requests)
