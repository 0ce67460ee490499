"""The PPO benchmarks: our side at a tiny size, and what the lines say of two sides; the peers need environments."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from benchmarks import ppo
from benchmarks.peers.common import read_task, reward_of
from benchmarks.ppo_task import Kind, write_task
from detox.alignment.policy import policy_of
from detox.alignment.rollout import PolicyRollout

SMALL: dict[str, Any] = {"prompts_an_iteration": 8, "iterations": 3, "max_new_tokens": 16, "threads": 1}


def written(kind: Kind, folder: Path, mean_length: float) -> Any:
    """The model as either side loads it."""
    write_task(kind, folder, "tiny", mean_length, **SMALL)
    loader = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    return loader.from_pretrained(folder / "model").eval()


def test_a_reward_is_the_share_of_good_among_good_and_bad() -> None:
    """Ids by four: 6 is good, 7 bad, 8 and 9 are neither: (2 - 1) / 3."""
    assert reward_of([6, 6, 7, 8, 9]) == pytest.approx(1 / 3)
    assert reward_of([7]) == -1
    assert reward_of([8]) == reward_of([]) == 0


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_responses_end_where_the_task_says(kind: Kind, tmp_path: Path) -> None:
    """With a chance of 1 in 8 at each token, 16 at most: (1 - (7/8)^16) * 8 = 7.06 on average, and 12 % do not end.

    Of 256 the mean is within three standard errors, 5.4 / 16, were all states alike; they are so but roughly.
    """
    model = written(kind, tmp_path, 8)
    task = read_task(tmp_path)
    found = PolicyRollout(policy_of(model), 16)(task["prompts"] * 8, range(256), 0)
    assert np.mean([len(one.tokens) for one in found]) == pytest.approx(7.06, abs=1.5)
    assert np.mean([one.ended for one in found]) == pytest.approx(0.88, abs=0.1)
    assert task["pad"] not in {token for one in found for token in one.tokens}
    assert abs(np.mean([reward_of(one.tokens) for one in found])) < 0.7  # there is something left to learn


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_none_ends_where_the_mean_is_infinite(kind: Kind, tmp_path: Path) -> None:
    model = written(kind, tmp_path, float("inf"))
    found = PolicyRollout(policy_of(model), 16)(read_task(tmp_path)["prompts"], range(32), 0)
    assert {len(one.tokens) for one in found} == {16}


def test_version_4_reads_the_output_layer_as_it_is(tmp_path: Path) -> None:
    """By its config it is not the embedding, and by its weights neither."""
    model = written("seq2seq", tmp_path, 8)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"] is False
    assert not torch.equal(model.lm_head.weight, model.shared.weight)


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_our_side_runs(kind: Kind, tmp_path: Path) -> None:
    """The probe's log-probability is that of the plain model, and figures are those of three iterations.

    In a process of its own, as the benchmark does: in this one other tests may have held more memory before.
    """
    model = written(kind, tmp_path, 8)
    task = read_task(tmp_path)
    command = [sys.executable, "-m", f"benchmarks.ppo_{kind}", "--worker", str(tmp_path)]
    line = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    prompt, response = torch.tensor([task["probe_prompt"]]), torch.tensor([task["probe_response"]])
    if kind == "seq2seq":
        logits = model(input_ids=prompt, labels=response).logits
    else:
        logits = model(torch.cat([prompt, response], 1)).logits[:, prompt.shape[1] - 1 : -1]
    wanted = logits.log_softmax(-1).gather(2, response[..., None]).sum()
    assert line["logprob"] == pytest.approx(wanted.item(), abs=1e-3)
    assert len(line["rewards"]) == len(line["lengths"]) == 3
    assert min(line["rate"], line["cpu"], line["mib"]) > 0


RUN = {"logprob": -1.0, "torch": "2.13.0", "mib": 100.0, "cpu": 0.5, "rate": 10.0, "lengths": [4.0] * 4}


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stand-in for the peer's process says; ours are the same but for the rewards."""
    said = dict(RUN, mib=200.0, rate=5.0, rewards=[0.0, 0.0, 0.0, 0.5])

    def in_process(command: list[str]) -> dict[str, Any]:
        if "-E" in command:
            return said
        return dict(RUN, rewards=[0.0, 0.1, 0.2, float(command[-1])])

    monkeypatch.setattr(ppo, "_in_process", in_process)
    monkeypatch.setattr(ppo.environments, "python_of", lambda requirements, folder: Path("python"))
    return said


def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[dict[str, Any]]:
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def test_lines_of_two_sides(peer: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds 0, 1 end at 0, 1, the peer at 0.5 both times: no difference, and a standard error of sqrt(0.5 / 2)."""
    ppo.main("causal", ppo.Peer("a.py", "a.txt"), None, ["--runs", "2", "--model", "tiny"])
    rewards, _, end, gained, memory, _, rate = lines(capsys)
    assert rewards["ours"] == [0.0, 0.1, 0.2, 0.5]
    assert end["ours less peer"] == 0
    assert end["standard error"] == 0.5
    assert gained["ours"] == gained["peer"] == 0.5
    assert memory["ratio"] == 0.5
    assert (rate["metric"], rate["ratio"], rate["runs"]) == ("samples per second", 2, 2)


@pytest.mark.parametrize(("patch", "rule"), [({"logprob": -1.1}, "not the same"), ({"torch": "2.4.0"}, "pin the same")])
def test_sides_that_cannot_be_compared_are_refused(peer: dict[str, Any], patch: dict[str, Any], rule: str) -> None:
    peer.update(patch)
    with pytest.raises(SystemExit, match=rule):
        ppo.main("causal", ppo.Peer("a.py", "a.txt"), None, ["--runs", "1", "--model", "tiny"])


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_the_peers_are_there_and_import_nothing_of_ours(kind: str) -> None:
    """Their files exist, and name no package of this repository but the module beside them."""
    named = runpy.run_module(f"benchmarks.ppo_{kind}")["PEER"]
    assert "torch==2.13.0\n" in (ppo.PEERS / named.requirements).read_text()
    for script in (named.script, "common.py"):
        imports = [line for line in (ppo.PEERS / script).read_text().splitlines() if "import " in line]
        assert not [line for line in imports if line.split()[1].split(".")[0] in {"detox", "benchmarks", "rayjobs"}]
