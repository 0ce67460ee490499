"""DOC"""

from __future__ import annotations

from benchmarks.ppo import Peer, main

PEER = Peer("trl_1_12_ppo.py", "trl_1_12.txt")

if __name__ == "__main__":
    main("causal", PEER, __doc__)
