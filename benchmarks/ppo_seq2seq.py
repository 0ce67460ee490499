"""Our PPO of an encoder-decoder against `trl==0.11.4`, the last TRL that had one: same first weights, same task.

`python -m benchmarks.ppo_seq2seq [--runs 3] [--model small] [--mean-length 20]` writes a T5 of FLAN-T5's form with
random weights (`benchmarks.ppo_task`) and trains it with both in alternating runs, each in a process and with a seed of
its own: same prompts, LoRA of the same layers, batch, minibatches, epochs, response length, learning rate, gamma,
lambda, clips, value coefficient, fixed price of the KL, temperature 1, float32, Adam without decay, threads. The peer's
environment is built once, by pip, from `benchmarks/peers/trl_0_11.txt` (`benchmarks.environments`).

Timed from the end of the first iteration to the end of the last: rollout, reward and update. Memory is the most that
the process held, above what it held once everything was imported and the policy loaded.

What still differs:
- Samples, adapters and minibatches are drawn by other generators, so the learning curves are compared as means over the
  runs. "Reward at the end" is that of the last quarter of the iterations; the curves count as equal where ours is not
  lower by more than two standard errors.
- TRL leaves the first token of each response out of the loss, and stops where that was all: its responses are made to
  have two tokens at least (`min_new_tokens`).
- TRL rolls out and learns with padding up to the longest of the batch; ours leaves it out. With `--mean-length 0` no
  response ends before its limit, and only the padding of prompts remains.
- The peer's transformers and peft are of its time.
- TRL computes the entropy of each token in every pass, with its gradient, for its statistics; ours once, without.
- Ours decodes the responses to texts, since its rewards may read them; the peer's loop rewards ids.
"""

from __future__ import annotations

from benchmarks.ppo import Peer, main

PEER = Peer("trl_0_11_ppo.py", "trl_0_11.txt")

if __name__ == "__main__":
    main("seq2seq", PEER, __doc__)
