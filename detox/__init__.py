"""Text toxicity as a library: data, classifiers, rewriters, scoring, explanation, evaluation. No Ray in here.

`detox.Classifier` and `detox.Rewriter` are the face of the package; they are imported on first use, so that
`import detox` stays instant.
"""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.classifier.face import Classifier
    from detox.rewriter.face import Rewriter

__all__ = ["Classifier", "Rewriter"]

# at every start bitsandbytes warns that its 4-bit products on a CPU could be faster, which nothing here asks for
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name == "Classifier":
        from detox.classifier.face import Classifier

        return Classifier
    if name == "Rewriter":
        from detox.rewriter.face import Rewriter

        return Rewriter
    raise AttributeError(f"module 'detox' has no attribute {name!r}")
