"""How likely a rewriter's model finds the references: loss and perplexity at the end (S2 section 6).

S2's baseline had a loss of 1.49 and copied all the same: this says how well a model predicts a reference's next token
when it is given all before, not what it writes by itself.

Shapes: B rows, T target tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from detox.classifier.batching import pad_rows
from detox.data.pairs.prepared import Case, PairRow
from detox.models.loading import LoadedModel
from detox.rewriter.batches import padded, tokenise_pairs
from detox.rewriter.face import Rewriter
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.losses import cross_entropy
from detox.rewriter.preference import IGNORED

BATCH = 32


@torch.inference_mode()
def reference_loss(rewriter: Rewriter, cases: Sequence[Case]) -> float:
    """Negative log-likelihood a token, EOS included, of the first reference of each case; NaN of a remote rewriter.

    Its exponential is the perplexity. Both depend on the tokenizer: models with different ones do not compare.
    """
    loaded = rewriter._loaded
    if not isinstance(loaded, LoadedModel) or not cases:
        return math.nan
    rows = [PairRow(0, case.lang, case.source, case.references[0], 0, 0.0, case.level) for case in cases]
    pairs = tokenise_pairs(rows, loaded.tokenizer, rewriter._model, Lexicon({}))
    order = pairs.sources.lengths.argsort(kind="stable").tolist()
    model, device = loaded.model, loaded.model.device
    nll, tokens = 0.0, 0
    for begin in range(0, len(order), BATCH):
        part = order[begin : begin + BATCH]
        inputs = pad_rows([pairs.sources[row] for row in part], int(model.config.pad_token_id))
        labels_BT = padded([pairs.targets[row] for row in part], IGNORED).to(device)
        wanted = {key: inputs[key].to(device) for key in ("input_ids", "attention_mask")}
        logits_BTV = model(**wanted, labels=labels_BT).logits
        nll += float(cross_entropy(logits_BTV, labels_BT).sum())
        tokens += int((labels_BT != IGNORED).sum())
    return nll / tokens
