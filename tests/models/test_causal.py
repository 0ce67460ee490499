"""Causal models by name: whole, as adapters, in four bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model

from detox import cli
from detox.governance.manifest import verify_manifest
from detox.models import tiny
from detox.models.causal import adapters_base, kind_of, load_adapted, load_causal, load_merged
from detox.models.loading import ModelUnavailableError, load_language_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    built = tiny.build("qwen2", head="causal_lm", hidden=64)
    built.model.save_pretrained(tmp_path / "base")
    built.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 6, 7]])).logits


def test_a_folder_s_model_comes_with_its_tokenizer(folder: Path) -> None:
    loaded = load_causal(str(folder))
    assert not loaded.model.training
    assert loaded.tokenizer.pad_token_id is not None
    assert torch.equal(logits(loaded.model), logits(tiny.build("qwen2", head="causal_lm", hidden=64).model))


def test_adapters_stand_on_the_base_that_they_name(folder: Path, tmp_path: Path) -> None:
    model = get_peft_model(load_causal(str(folder)).model, LoraConfig(target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "adapters")
    assert adapters_base(str(tmp_path / "adapters")) == str(folder)
    loaded = load_causal(str(tmp_path / "adapters"))
    assert torch.equal(logits(loaded.model), logits(model.eval()))
    assert not torch.equal(logits(loaded.model), logits(load_causal(str(folder)).model))


def test_adapters_end_where_they_learnt_to(folder: Path, tmp_path: Path) -> None:
    """A chat's end of a turn, of which the base knows nothing as an end; merged they still do."""
    base = load_causal(str(folder))
    tokenizer: Any = base.tokenizer
    known = tokenizer.eos_token_id
    end = next(token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token)
    get_peft_model(base.model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "adapters")
    tokenizer.eos_token = end
    tokenizer.save_pretrained(tmp_path / "adapters")
    for loaded in (load_causal(str(tmp_path / "adapters")), load_merged(str(tmp_path / "adapters"))):
        ends = loaded.model.generation_config.eos_token_id
        assert loaded.tokenizer.eos_token == end
        assert ends == [tokenizer.eos_token_id, known]


def test_merging_is_a_step_of_its_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole model says what base and adapters say, and its manifest names the adapters."""
    adapters, whole = tmp_path / "adapters", tmp_path / "whole"
    model = get_peft_model(
        load_causal(str(folder)).model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    model.save_pretrained(adapters)
    assert cli.main(["merge", str(adapters), str(whole)]) == 0
    merged = load_causal(str(whole))
    assert (whole / "model.safetensors").is_file()
    torch.testing.assert_close(logits(merged.model), logits(model.eval()), atol=1e-5, rtol=1e-4)
    assert verify_manifest(whole)["parents"][0]["name"] == str(adapters)
    capsys.readouterr()
    assert cli.main(["merge", str(adapters), str(whole)]) == 2
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert cli.main(["merge", str(whole), str(tmp_path / "again")]) == 2
    assert "is a whole model already" in capsys.readouterr().err


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    tiny.write_checkpoint("t5", tmp_path / "t5", head="seq2seq_lm")
    with pytest.raises(ModelUnavailableError, match="is a t5, an encoder-decoder: name a causal model"):
        load_causal(str(tmp_path / "t5"))


def test_four_bit_layers_keep_their_gradients_after_an_evaluation(folder: Path) -> None:
    """bitsandbytes repacks them at the first pass in evaluation mode, where the CPU has AVX512-BF16, and then no
    gradient flows to what lies below."""
    model = load_language_model(str(folder), "causal_lm", four_bit=True).model
    assert type(model.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"

    def gradient() -> torch.Tensor:
        embedded = model.get_input_embeddings()(torch.tensor([[5, 6, 7]])).detach().requires_grad_()
        model(inputs_embeds=embedded).logits.square().sum().backward()
        assert embedded.grad is not None
        return embedded.grad

    before = gradient()
    model.eval()
    logits(model)
    assert torch.equal(before, gradient())
    assert before.abs().min() > 0


def test_adapters_of_an_encoder_decoder_are_known_for_what_they_are_and_merged(tmp_path: Path) -> None:
    base = tiny.write_checkpoint("t5", tmp_path / "t5", head="seq2seq_lm")
    lora = LoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, target_modules=["q", "v"], init_lora_weights=False)
    model = get_peft_model(load_adapted(str(base), "seq2seq_lm").model, lora).eval()
    model.save_pretrained(tmp_path / "adapters")
    assert kind_of(str(tmp_path / "adapters")) == kind_of("tiny/t5") == "seq2seq_lm"
    assert kind_of("tiny/gpt2") == "causal_lm"
    assert cli.main(["merge", str(tmp_path / "adapters"), str(tmp_path / "whole")]) == 0
    ids = torch.tensor([[5, 6, 1]])
    with torch.no_grad():
        said, merged, plain = (
            one(input_ids=ids, labels=ids).logits
            for one in (model, *(load_adapted(str(tmp_path / at), "seq2seq_lm").model for at in ("whole", "t5")))
        )
    torch.testing.assert_close(merged, said, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain, said, atol=1e-2)
