"""DOC"""

from __future__ import annotations

from benchmarks.ppo import Peer, main

PEER = Peer("trl_0_11_ppo.py", "trl_0_11.txt")

if __name__ == "__main__":
    main("seq2seq", PEER, __doc__)
