"""What PPO is given of examples: prompts as the model reads them, as many as are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from detox.alignment.model_task import model_task
from detox.alignment.settings import AlignModelConfig
from detox.data.examples.example import Example, PreparedExamples, write_part
from detox.runs.config import override, validated


@pytest.mark.parametrize(("model", "room"), [("tiny/t5", 15), ("tiny/gpt2", 11)])
def test_prompts_are_asked_that_leave_room_and_no_more_than_wanted(model: str, room: int, tmp_path: Path) -> None:
    """An encoder reads 15 tokens, EOS among them; a decoder reads the 4 of its response among them."""
    rows = [Example("a " * length, "b") for length in range(1, 30)]
    for part in ("train", "validation", "test"):
        write_part(tmp_path / f"{part}.parquet", rows)
    (tmp_path / "words.txt").write_text("idiot\n")
    plain = validated(AlignModelConfig, {"model": {"name": model, "lora": {"rank": 0}, "max_tokens": 15}})
    reward = {"reward.scorer": f"lexicon:{tmp_path / 'words.txt'}", "ppo.max_new_tokens": 4}
    everything = model_task(override(plain, reward), PreparedExamples(tmp_path, {}), tmp_path)
    lengths = [len(prompt.ids) for prompt in everything.prompts]
    assert max(lengths) == room
    assert len(everything.prompts) + len(everything.refused) == len(rows)
    assert f"there is room for 1 to {room}" in everything.refused[0]["reason"]
    few = model_task(override(plain, reward | {"most_prompts": 3}), PreparedExamples(tmp_path, {}), tmp_path)
    assert few.prompts == everything.prompts[:3]
    ends = everything.loaded.tokenizer.eos_token_id
    assert all((prompt.ids[-1] == ends) == (model == "tiny/t5") for prompt in few.prompts)
    assert few.prompts[0].columns["reference"] == "b"
