"""T5 with a copy head: what a machine without a pretrained encoder-decoder can train to rewrite.

At each step the model either writes a token of the vocabulary or copies one of the source, in a mixture that it
chooses itself (pointer-generator, See et al. 2017; T5 layers, Raffel et al. 2020). Most words of a rewrite stand in its
source, in the same order. So the model is told where a reader of source and rewrite would be: behind the last word that
both have. The decoder reads the encoder's state of that place, and the pointer is drawn to it, or to one of the places
after it. What is left to learn from few pairs is where not to go on copying. The place is a function of the tokens
alone and nothing to keep in a cache. The logits are log-probabilities of the mixture, by which losses, decoding and PPO
treat the model as any other encoder-decoder.

Shapes: B rows, S source tokens, T target tokens, V vocabulary, D width, J jumps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

LEAST_PROBABILITY = 1e-9
"""Of a copy that the pointer does not point at: its logarithm must be finite."""
JUMPS = 8
"""Places that the pointer is drawn to: where the reader is, or leaving out up to seven tokens."""
BACKWARDS = 2
"""How much farther a place behind the reader is than one ahead."""
FAR = 1 << 30
INITIAL_PULL, INITIAL_GATE = 4.0, 1.0
"""An untrained model goes on copying."""
NOWHERE = -1


class CopyT5Config(T5Config):
    """T5's config under a name of its own."""

    model_type = "copy_t5"


@dataclass
class SourceOutput(BaseModelOutput):
    """An encoder's states with what a decoder that copies needs of the source beside them."""

    source_ids: torch.LongTensor | None = None
    """The tokens that the states stand for."""
    source_keys: torch.FloatTensor | None = None
    """What the pointer looks at `[B, S, D]`: the same at every step."""


class SourceEncoder(nn.Module):
    """The encoder as generation runs it, once a source: what it gives travels with the rows."""

    def __init__(self, encoder: nn.Module, copy_key: nn.Module) -> None:
        super().__init__()
        self.encoder, self.copy_key = encoder, copy_key

    def forward(self, input_ids: Tensor | None = None, **kwargs: Any) -> SourceOutput:
        """Given `inputs_embeds` in place of tokens, states that a loss can compare and no decoder can copy from."""
        states_BSD = self.encoder(input_ids=input_ids, **kwargs).last_hidden_state
        return SourceOutput(states_BSD, source_ids=input_ids, source_keys=self.copy_key(states_BSD))  # type: ignore[arg-type]


class CopyT5ForConditionalGeneration(T5ForConditionalGeneration):
    """T5 that writes or copies."""

    config_class = CopyT5Config
    folded_V: Tensor
    """The first token that is the same but for case, of each token."""

    def __init__(self, config: CopyT5Config) -> None:
        super().__init__(config)
        width = config.d_model
        self.copy_next = nn.Linear(width, width, bias=False)
        self.copy_query = nn.Linear(width, width)
        self.copy_key = nn.Linear(width, width, bias=False)
        self.copy_jump = nn.Linear(width, JUMPS)
        self.copy_gate = nn.Linear(2 * width, 1)
        self.register_buffer("folded_V", torch.arange(config.vocab_size))
        self.post_init()

    def fold(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Let tokens that differ in case alone count as the same one where the reading place is looked for: a rewrite
        often begins with a capital that its source lacks."""
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        first: dict[str, int] = {}
        for token, piece in enumerate(pieces):
            self.folded_V[token] = first.setdefault(piece.casefold(), token)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, nn.Linear) and module in self._copy_head():
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        with torch.no_grad():
            if module is getattr(self, "copy_jump", None):
                self.copy_jump.bias[0] = INITIAL_PULL
            if module is getattr(self, "copy_gate", None):
                self.copy_gate.bias.fill_(INITIAL_GATE)

    def _copy_head(self) -> set[nn.Module]:
        return {child for name, child in self.named_children() if name.startswith("copy_")}

    def get_encoder(self, modality: str | None = None) -> SourceEncoder:
        return SourceEncoder(self.encoder, self.copy_key)

    def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """As T5's, with all tokens so far beside the last one."""
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore[misc]
        return {**inputs, "decoder_prefix_ids": input_ids}

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        decoder_prefix_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """As T5's; `logits` are log-probabilities.

        Args:
            decoder_prefix_ids: all tokens so far, the start token first, where a cache holds what stands before
                `decoder_input_ids`.

        Raises:
            ValueError: the source's or the decoder's tokens are not known.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        source_ids_BS = getattr(encoder_outputs, "source_ids", None)
        source_ids_BS = input_ids if source_ids_BS is None else source_ids_BS
        if source_ids_BS is None:
            raise ValueError("a model that copies must know the source's tokens: give input_ids, not inputs_embeds")
        if labels is not None and decoder_input_ids is None:
            decoder_input_ids = self._shift_right(labels)
        if decoder_input_ids is None:
            raise ValueError("a model that copies must know the decoder's tokens: give decoder_input_ids or labels")
        prefix_ids = decoder_input_ids if decoder_prefix_ids is None else decoder_prefix_ids
        if (
            past_key_values is not None
            and past_key_values.get_seq_length() + decoder_input_ids.shape[1] > prefix_ids.shape[1]
        ):
            raise ValueError("a model that copies must know what the cache holds: give decoder_prefix_ids too")
        states_BSD = encoder_outputs[0]
        keys_BSD = getattr(encoder_outputs, "source_keys", None)
        keys_BSD = self.copy_key(states_BSD) if keys_BSD is None else keys_BSD
        places_BT = self._places(source_ids_BS, attention_mask, prefix_ids)[:, -decoder_input_ids.shape[1] :]
        here_BTD = states_BSD.gather(1, places_BT[..., None].expand(-1, -1, states_BSD.shape[-1]))
        decoded = self.decoder(
            inputs_embeds=self.shared(decoder_input_ids) + self.copy_next(here_BTD),
            past_key_values=past_key_values,
            encoder_hidden_states=states_BSD,
            encoder_attention_mask=attention_mask,
            use_cache=use_cache,
        )
        logprobs_BTV = self._mixture(decoded[0], states_BSD, keys_BSD, source_ids_BS, attention_mask, places_BT)
        loss = None if labels is None else cross_entropy(logprobs_BTV.flatten(0, 1), labels.flatten())
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logprobs_BTV,  # type: ignore[arg-type]
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=(decoded[0],),  # type: ignore[arg-type]
            encoder_last_hidden_state=states_BSD,
        )

    def _places(self, source_ids_BS: Tensor, mask_BS: Tensor | None, prefix_ids_BT: Tensor) -> Tensor:
        """Where in the source the reader is before each step, int64 `[B, T]`: behind the token written last, where the
        source has it; of several places the nearest, ahead rather than back. The model's own words do not move it."""
        source_BS, written_BT = self.folded_V[source_ids_BS], self.folded_V[prefix_ids_BT]
        if mask_BS is not None:
            source_BS = source_BS.masked_fill(~mask_BS.bool(), NOWHERE)
        positions_S = torch.arange(source_BS.shape[1], device=source_BS.device)
        place_B = torch.zeros(len(source_BS), dtype=torch.long, device=source_BS.device)
        places = [place_B]
        for step in range(1, written_BT.shape[1]):
            ahead_BS = positions_S - place_B[:, None]
            far_BS = torch.where(ahead_BS >= 0, ahead_BS, BACKWARDS * -ahead_BS)
            far_BS = far_BS.masked_fill(source_BS != written_BT[:, step, None], FAR)
            nearest = far_BS.min(1)
            behind_B = (nearest.indices + 1).clamp(max=source_BS.shape[1] - 1)
            place_B = torch.where(nearest.values < FAR, behind_B, place_B)
            places.append(place_B)
        return torch.stack(places, dim=1)

    def _mixture(
        self,
        hidden_BTD: Tensor,
        states_BSD: Tensor,
        keys_BSD: Tensor,
        source_ids_BS: Tensor,
        mask_BS: Tensor | None,
        places_BT: Tensor,
    ) -> Tensor:
        """Log-probabilities `[B, T, V]` in float32."""
        content_BTS = self.copy_query(hidden_BTD) @ keys_BSD.transpose(1, 2) * self.model_dim**-0.5
        scores_BTS = content_BTS.float() + self._pulls(hidden_BTD, places_BT, source_ids_BS.shape[1])
        if mask_BS is not None:
            scores_BTS = scores_BTS.masked_fill(~mask_BS.bool()[:, None], torch.finfo(torch.float32).min)
        attention_BTS = scores_BTS.softmax(-1)
        context_BTD = attention_BTS.to(states_BSD.dtype) @ states_BSD
        gate_BT1 = self.copy_gate(torch.cat([hidden_BTD, context_BTD], dim=-1)).float()
        scale = self.model_dim**-0.5 if self.config.scale_decoder_outputs else 1.0  # where the embedding is tied
        logits_BTV = self.lm_head(hidden_BTD * scale).float()
        return _with_copies(logits_BTV, gate_BT1, attention_BTS, source_ids_BS)

    def _pulls(self, hidden_BTD: Tensor, places_BT: Tensor, length: int) -> Tensor:
        """What draws the pointer to the place where the reader is, to the one after it, … float32 `[B, T, S]`."""
        ahead_BTS = torch.arange(length, device=places_BT.device) - places_BT[..., None]
        pulls_BTJ = self.copy_jump(hidden_BTD).float()
        drawn_BTS = pulls_BTJ.gather(2, ahead_BTS.clamp(0, JUMPS - 1))
        return drawn_BTS * ((ahead_BTS >= 0) & (ahead_BTS < JUMPS))


def _with_copies(logits_BTV: Tensor, gate_BT1: Tensor, attention_BTS: Tensor, source_ids_BS: Tensor) -> Tensor:
    """Log-probabilities of writing, raised where a token can be copied too. Passes over the whole vocabulary are much
    of the cost, so there are as few as can be."""
    same_BSS = source_ids_BS[:, :, None] == source_ids_BS[:, None]
    copied_BTS = logsigmoid(gate_BT1) + (attention_BTS @ same_BSS.float()).clamp(min=LEAST_PROBABILITY).log()
    index_BTS = source_ids_BS[:, None].expand_as(attention_BTS)
    shift_BT1 = logsigmoid(-gate_BT1) - logits_BTV.logsumexp(-1, keepdim=True)
    written_BTS = logits_BTV.gather(2, index_BTS) + shift_BT1
    is_first_BS = ~same_BSS.tril(-1).any(-1)  # of a token that stands there twice, so that it is raised once
    raise_BTS = (torch.logaddexp(written_BTS, copied_BTS) - written_BTS) * is_first_BS[:, None]
    return (logits_BTV + shift_BT1).scatter_add_(2, index_BTS, raise_BTS)


AutoConfig.register("copy_t5", CopyT5Config)
AutoModelForSeq2SeqLM.register(CopyT5Config, CopyT5ForConditionalGeneration)
