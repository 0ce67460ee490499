"""T5 with a copy head: what a machine without a pretrained encoder-decoder can train to rewrite.

At each step the model either writes a token of the vocabulary or copies one of the source, in a mixture that it
chooses itself (pointer-generator, See et al. 2017; T5 layers, Raffel et al. 2020). Most words of a rewrite stand in its
source, so what has to be learned from few pairs is where not to copy. The logits are log-probabilities of the mixture,
by which losses, decoding and PPO treat it as any other encoder-decoder.

Shapes: B rows, S source tokens, T target tokens, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid, pad
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5Stack

LEAST_PROBABILITY = 1e-9
"""Of a token that does not stand in the source, as a copy: its logarithm must be finite."""


class CopyT5Config(T5Config):
    """T5's config under a name of its own."""

    model_type = "copy_t5"


@dataclass
class SourceOutput(BaseModelOutput):
    """An encoder's states with the tokens they stand for, which a decoder that copies has to know."""

    source_ids: torch.LongTensor | None = None


class SourceEncoder(T5Stack):
    """T5's encoder; its output names the source tokens."""

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> SourceOutput:  # type: ignore[override]
        found = super().forward(input_ids=input_ids, **kwargs)
        return SourceOutput(last_hidden_state=found.last_hidden_state, source_ids=input_ids)  # type: ignore[arg-type]


class CopyT5ForConditionalGeneration(T5ForConditionalGeneration):
    """T5 that writes or copies."""

    config_class = CopyT5Config

    def __init__(self, config: CopyT5Config) -> None:
        super().__init__(config)
        self.encoder = SourceEncoder(self.encoder.config)
        self.copy_query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.copy_key = nn.Linear(2 * config.d_model, config.d_model, bias=False)
        self.copy_gate = nn.Linear(2 * config.d_model, 1)
        self.post_init()

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """As T5's; `logits` are log-probabilities.

        Raises:
            ValueError: neither `input_ids` nor an output of this model's encoder tells the source tokens.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        source_ids_BS = getattr(encoder_outputs, "source_ids", None)
        source_ids_BS = input_ids if source_ids_BS is None else source_ids_BS
        if source_ids_BS is None:
            raise ValueError("a model that copies must know the source's tokens: give input_ids, not inputs_embeds")
        if labels is not None and decoder_input_ids is None:
            decoder_input_ids = self._shift_right(labels)
        states_BSD = encoder_outputs[0]
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            past_key_values=past_key_values,
            encoder_hidden_states=states_BSD,
            encoder_attention_mask=attention_mask,
            use_cache=use_cache,
        )
        logprobs_BTV = self._mixture(decoded[0], states_BSD, source_ids_BS, attention_mask)
        loss = None if labels is None else cross_entropy(logprobs_BTV.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logprobs_BTV,  # type: ignore[arg-type]
            past_key_values=decoded.past_key_values,
            encoder_last_hidden_state=states_BSD,
        )

    def _mixture(self, hidden_BTD: Tensor, states_BSD: Tensor, source_ids_BS: Tensor, mask_BS: Tensor | None) -> Tensor:
        """Log-probabilities `[B, T, V]` in float32."""
        before_BSD = pad(states_BSD, (0, 0, 1, 0))[:, :-1]  # what stood before a token tells whether it comes next
        keys_BSD = self.copy_key(torch.cat([states_BSD, before_BSD], dim=-1))
        scores_BTS = (self.copy_query(hidden_BTD) @ keys_BSD.transpose(1, 2)).float() * self.model_dim**-0.5
        if mask_BS is not None:
            scores_BTS = scores_BTS.masked_fill(~mask_BS.bool()[:, None], torch.finfo(torch.float32).min)
        attention_BTS = scores_BTS.softmax(-1)
        context_BTD = attention_BTS.to(states_BSD.dtype) @ states_BSD
        gate_BT1 = self.copy_gate(torch.cat([hidden_BTD, context_BTD], dim=-1)).float()
        scale = self.model_dim**-0.5 if self.config.scale_decoder_outputs else 1.0  # where the embedding is tied
        written_BTV = self.lm_head(hidden_BTD * scale).float().log_softmax(-1)
        copied_BTV = torch.full_like(written_BTV, LEAST_PROBABILITY)
        index_BTS = source_ids_BS[:, None].expand(-1, hidden_BTD.shape[1], -1)
        copied_BTV = copied_BTV.scatter_add(2, index_BTS, attention_BTS).log()
        return torch.logaddexp(logsigmoid(-gate_BT1) + written_BTV, logsigmoid(gate_BT1) + copied_BTV)


AutoConfig.register("copy_t5", CopyT5Config)
AutoModelForSeq2SeqLM.register(CopyT5Config, CopyT5ForConditionalGeneration)
