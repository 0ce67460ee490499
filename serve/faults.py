"""What a replica lets out when a model fails: not the message, which may hold the text, for Ray logs what is raised."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from detox.rewriter.remote_request import RemoteError, StoppedError
from serve.artifacts import ReplacedError

log = logging.getLogger("ray.serve")
"""Serve's own, so that its `logging_config` holds for it."""


class ModelFault(RuntimeError):
    """A model failed; names the exception that it raised."""


@contextmanager
def without_texts() -> Iterator[None]:
    """Exceptions leave the block without their messages; the log has where they came from.

    Raises:
        RemoteError: the endpoint behind the model failed.
        ReplacedError: the model's files are another model's by now.
        ModelFault: in place of any other exception.
    """
    try:
        yield
    except (RemoteError, StoppedError) as error:
        status, position = getattr(error, "status", None), getattr(error, "position", 0)
        log.error("the remote model failed: status %s", status)
        raise RemoteError(position, status, "the endpoint failed", "see its own log") from None
    except ReplacedError:
        raise
    except Exception as error:
        log_fault("a model failed", error)
        raise ModelFault(type(error).__name__) from None


def log_fault(what: str, error: BaseException) -> None:
    """Say in the log what failed and where, without the exception's message, which may hold what the client sent."""
    log.error("%s: %s\n%s", what, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
