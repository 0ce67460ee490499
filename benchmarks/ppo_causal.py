"""Our PPO of a causal model against `experimental.ppo` of `trl==1.12.0`, the last TRL that had one.

`python -m benchmarks.ppo_causal [--runs 3] [--model small] [--mean-length 20]` does with a GPT-2 of random weights what
`benchmarks.ppo_seq2seq` does, which states what is equal and how the curves are compared; transformers, peft and
accelerate are the same on both sides, too.

What still differs:
- TRL wants a model of its own for the values. It begins as the policy with a head of zeros, and gets LoRA in the same
  layers, so that it costs little more than a second trunk; ours has a head on the policy's trunk.
- TRL takes the policy's log-probabilities from the scores that generation kept, and so makes a pass less than ours
  before the update.
- TRL wants a module as its reward model: one that computes the reward from the ids, as cheap as ours.
- TRL pads prompts on the left and responses on the right to the longest of the batch, also while it learns; ours leaves
  the padding out. With `--mean-length 0` no response ends before its limit, and only the padding of prompts remains.
- TRL puts a response's reward on the position after its EOS, and learns a value there.
- Ours decodes the responses to texts, since its rewards may read them.
"""

from __future__ import annotations

from benchmarks.ppo import Peer, main

PEER = Peer("trl_1_12_ppo.py", "trl_1_12.txt")

if __name__ == "__main__":
    main("causal", PEER, __doc__)
