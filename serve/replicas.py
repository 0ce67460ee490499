"""How many replicas a deployment has, for rates that hold over all of them."""

from __future__ import annotations

import threading
import time

from ray import serve as ray_serve

LOOK_EVERY = 5.0


class ReplicaCount:
    """The number of running replicas, as Serve said a few seconds ago. Asking costs a call to the controller, so a
    thread does it when the number is asked for and old."""

    def __init__(self, deployment: str) -> None:
        self._deployment, self._count, self._looked = deployment, 1, -LOOK_EVERY
        self._lock = threading.Lock()

    def __call__(self) -> int:
        if time.monotonic() - self._looked > LOOK_EVERY and self._lock.acquire(blocking=False):
            self._looked = time.monotonic()
            threading.Thread(target=self._look, daemon=True).start()
        return self._count

    def _look(self) -> None:
        try:
            for application in ray_serve.status().applications.values():
                found = application.deployments.get(self._deployment)
                if found is not None:
                    # a state is an enumeration's member by Ray's annotation, and a string in fact; it is equal to both
                    running = [count for state, count in found.replica_states.items() if state == "RUNNING"]
                    self._count = max([1, *running])
        finally:
            self._lock.release()
