"""What Serve's HAProxy is to do beyond Ray's defaults: environment variables that Ray reads when it starts on a node.

`serve.local` sets them itself; on a cluster: `eval "$(python -m serve.haproxy)" && ray start …`.

What a killed replica leaves unanswered is asked again of another one, and so is what was answered 500: while an
application is built again, Ray lists no replica, and its proxy in Python, to which HAProxy turns then, says 500 of one
that dies. For that HAProxy must have the whole request before it passes any of it on, which it has of requests up to
16 KB; nothing that is asked here changes by being asked twice, but for a suggestion, which is then kept twice. A fault
of our own that comes every time is asked for nine times before the client hears of it. Where none is left to ask,
HAProxy answers 503 with Retry-After, not 500.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

STATUSES = (500, 502, 503, 504)
"""HAProxy's own answers where a replica gave none; those of replicas pass as they are."""
LOG_FORMAT = 'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %ts %HM %HPO %HV"'
"""As HAProxy's own, but for the query, which may hold an API key: `?key=…` is Perspective's way."""
UNAVAILABLE = Path(__file__).parent / "unavailable.http"
"""The answer where no replica is left."""
SLOWEST_S, IDLE_S = 30, 75
"""For a client to send all of its request, and between two of them on one connection."""


def private_folder() -> str:
    """A new folder that nobody else can look into."""
    return tempfile.mkdtemp(prefix="detox-", dir="/tmp")  # short: a socket's path has 107 characters at most


def environment(folder: str, unavailable: str = str(UNAVAILABLE)) -> dict[str, str]:
    """The variables, to be set before Ray starts.

    Args:
        folder: for HAProxy's configuration and sockets. Who can open its admin socket can lead all requests elsewhere,
            and Ray leaves that open to everybody on the machine, in a folder of `/tmp` that anybody may have made.
        unavailable: where `unavailable.http` is on the node.
    """
    path = unavailable.replace(" ", "\\ ")
    waits = [f"timeout http-request {SLOWEST_S}s", f"timeout http-keep-alive {IDLE_S}s"]
    defaults = ["option http-buffer-request", *waits, LOG_FORMAT]
    defaults += [f"errorfile {status} {path}" for status in STATUSES]
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",  # in place of Ray's proxy in Python
        # replicas run requests on their main event loop, hand out no tracing spans and write no access log
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response 500",
        # the next try is at another replica, but of three two may be gone
        "RAY_SERVE_HAPROXY_RETRIES": "8",
        # a killed replica's neighbours go on being asked: only health checks take a server out
        "RAY_SERVE_HAPROXY_OBSERVE_MARK_DOWN_ENABLED": "0",
        # Ray writes this one into HAProxy's `defaults` as it stands, the last line of them: there is no other way to
        # say more there
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "\n    ".join(["leastconn", *defaults]),
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # 5 by default, too short for a busy machine
        "TOKENIZERS_PARALLELISM": "false",
    }


def main() -> None:
    folder = private_folder()
    print(f"mkdir -p -m 700 {folder}")  # where these lines are kept, as in an image, it may be gone
    for name, value in environment(folder).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
