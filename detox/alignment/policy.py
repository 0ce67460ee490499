"""A policy to PPO: log-probabilities, entropies and values of given responses, whatever the architecture.

`EncoderDecoderPolicy` and `CausalPolicy` differ in how a prompt is read and in which state says the next token; all
else, value head, adapters, reference, is the same. Only states that say a response's tokens go through the output
layer and the value head: no logits of prompts or of padding exist.

Dropout must be off, also while training: two passes over the same tokens would differ by up to 1.7 nats a token (T5,
dropout 0.1), and every ratio with them. So a policy keeps its model in evaluation mode, in which gradients flow.

Shapes: B rows, P prompt tokens, T response tokens, N response tokens of all rows, D width.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.activations import NewGELUActivation
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from detox.alignment.logprobs import Entropy, TokenLogprobs, logprobs_of_logits, token_logprobs

REFERENCE = "reference"
"""Name of a frozen adapter: what a trained one began as, where that is not nothing."""


class Sequences(NamedTuple):
    """Prompts with a response each, padded on the right."""

    prompts_BP: Tensor
    prompt_mask_BP: Tensor
    responses_BT: Tensor
    """Up to and with EOS where there is one; padding after that."""
    mask_BT: Tensor
    """bool: where a response has a token. (Not where it is no padding: T5's padding is its decoder's start.)"""

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int, device: Any = "cpu"
    ) -> Sequences:
        prompts_BP, prompt_mask_BP = _padded(prompts, pad_id, device)
        responses_BT, mask_BT = _padded(responses, pad_id, device)
        return cls(prompts_BP, prompt_mask_BP.long(), responses_BT, mask_BT)


class Evaluated(NamedTuple):
    """Of each token of the responses; 0 after them."""

    logprobs_BT: Tensor
    values_BT: Tensor
    entropy_BT: Tensor | None
    """None: not asked for."""


class Policy(nn.Module, ABC):
    """A language model with a value head on its trunk.

    Args:
        model: whole, or with LoRA adapters; put into evaluation mode, in which its layers' checkpointing still works.
        temperature: of sampling, by which every logit is divided here too.

    Raises:
        ValueError: adapters that are not in the layers.
    """

    linear_heads: tuple[str, ...] = ()
    """Model types whose logits are a linear layer of the trunk's states and nothing else."""

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        super().__init__()
        if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
            raise ValueError(
                f"PPO needs adapters that live in the layers, and {model.active_peft_config.peft_type} puts tokens "
                "before the prompt: use LoRA"
            )
        if isinstance(model.get_output_embeddings(), BaseTunerLayer):
            raise ValueError("PPO does not train adapters of the output layer: take it out of lora.target_modules")
        self.model, self.temperature = model, temperature
        for layer in self._checkpointed():  # some drop out states themselves where they are told that they train
            for name in [name for name, value in vars(layer).items() if "dropout" in name and isinstance(value, float)]:
                setattr(layer, name, 0.0)
        _fuse_gelu(model)
        config = model.config.get_text_config()
        width = getattr(config, "d_model", None) or config.hidden_size
        self.value_head = nn.Linear(width, 1, device=model.device)
        nn.init.zeros_(self.value_head.weight)  # nothing is known of the rewards yet
        nn.init.zeros_(self.value_head.bias)
        self.train()

    def train(self, mode: bool = True) -> Policy:
        """Dropout stays off; layers that are checkpointed look at their own flag."""
        super().train(False)
        for layer in self._checkpointed():
            layer.training = mode
        return self

    def _checkpointed(self) -> Iterator[GradientCheckpointingLayer]:
        return (module for module in self.modules() if isinstance(module, GradientCheckpointingLayer))

    @property
    def base(self) -> Any:
        """The model without PEFT's wrapper; adapters in its layers act all the same."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    def forward(self, batch: Sequences, encoded: Tensor | None = None, entropy: Entropy = "value") -> Evaluated:
        """What the policy gives to each token of the responses.

        Args:
            encoded: the prompts' states from `encode`, where nothing that makes them is trained.
            entropy: `gradient` where it is part of the loss.
        """
        return self._evaluated(self._read(batch, encoded), batch, entropy)

    @torch.no_grad()
    def evaluate(self, batch: Sequences, encoded: Tensor | None = None) -> Evaluated:
        """The same to the last bit, without gradients.

        The trunk runs as with them: where T5's position biases are trained torch takes another attention kernel,
        whose rounding would show in the ratios (by 1e-7 in float32).
        """
        with torch.enable_grad():
            read = self._read(batch, encoded)
        logits_NV = None if read.logits_NV is None else read.logits_NV.detach()
        return self._evaluated(_Read(read.states_ND.detach(), logits_NV), batch, "value")

    def _evaluated(self, read: _Read, batch: Sequences, entropy: Entropy) -> Evaluated:
        with torch.autocast(self.device.type, enabled=False):  # bfloat16 would round the values to 1 in 256
            values_N = self.value_head(read.states_ND.to(self.value_head.weight.dtype))[:, 0].float()
        said = self._said(read, batch.responses_BT[batch.mask_BT], entropy)
        entropy_BT = None if said.entropy_N is None else _placed(said.entropy_N, batch.mask_BT)
        return Evaluated(_placed(said.logprobs_N, batch.mask_BT), _placed(values_N, batch.mask_BT), entropy_BT)

    def logprobs(self, batch: Sequences, encoded: Tensor | None = None) -> Tensor:
        """The log-probabilities alone, `[B, T]`."""
        said = self._said(self._read(batch, encoded), batch.responses_BT[batch.mask_BT], "none")
        return _placed(said.logprobs_N, batch.mask_BT)

    def encode(self, batch: Sequences) -> Tensor | None:
        """States of the prompts that may be given to later passes; None: there are none, or training changes them."""
        return None

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Within it the model is what it was before training: its adapter `reference` acts where it has one, else none.

        Raises:
            ValueError: it has no adapters.
        """
        if not isinstance(self.model, PeftModel):
            raise ValueError("a model without adapters is not its own reference: keep a copy of it")
        if REFERENCE not in self.model.peft_config:
            with self.model.disable_adapter():
                yield
            return
        trained = self.model.active_adapter
        self.model.set_adapter(REFERENCE)
        try:
            yield
        finally:
            self.model.set_adapter(trained)

    @abstractmethod
    def _read(self, batch: Sequences, encoded: Tensor | None) -> _Read: ...

    @property
    def _is_linear(self) -> bool:
        return self.base.config.model_type in self.linear_heads

    def _said(self, read: _Read, tokens_N: Tensor, entropy: Entropy) -> TokenLogprobs:
        if read.logits_NV is not None:
            return logprobs_of_logits(read.logits_NV, tokens_N, self.temperature, entropy)
        head = self.base.get_output_embeddings()
        return token_logprobs(read.states_ND, head.weight, tokens_N, head.bias, self.temperature, entropy)


class _Read(NamedTuple):
    states_ND: Tensor
    """Of the trunk, each of which says a token of the responses; in the order of the mask."""
    logits_NV: Tensor | None = None
    """Where they are more than a linear layer of the states."""


class EncoderDecoderPolicy(Policy):
    """T5, mT5 and, by way of their logits, other encoder-decoders."""

    linear_heads = ("t5", "mt5")

    def encode(self, batch: Sequences) -> Tensor | None:
        encoder = self.base.get_encoder()
        is_adapted = any(isinstance(module, BaseTunerLayer) for module in encoder.modules())
        if is_adapted or any(parameter.requires_grad for parameter in encoder.parameters()):
            return None
        with torch.no_grad():
            return self._encoded(batch)

    def _encoded(self, batch: Sequences) -> Tensor:
        encoder = self.base.get_encoder()
        return encoder(input_ids=batch.prompts_BP, attention_mask=batch.prompt_mask_BP).last_hidden_state

    def _read(self, batch: Sequences, encoded: Tensor | None) -> _Read:
        states_BPD = self._encoded(batch) if encoded is None else encoded
        config = self.base.config
        before_BT = pad(batch.responses_BT[:, :-1], (1, 0), value=config.decoder_start_token_id)
        if self._is_linear:
            found_BTD = self.base.decoder(
                input_ids=before_BT,
                encoder_hidden_states=states_BPD,
                encoder_attention_mask=batch.prompt_mask_BP,
                use_cache=False,
            )[0]
            # where the embedding is tied; mT5 has no such setting
            scale = config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else 1.0
            return _Read(found_BTD[batch.mask_BT] * scale)
        found = self.base(
            input_ids=batch.prompts_BP,  # a copy head reads them
            attention_mask=batch.prompt_mask_BP,
            encoder_outputs=BaseModelOutput(last_hidden_state=states_BPD),  # type: ignore[arg-type]
            decoder_input_ids=before_BT,
            output_hidden_states=True,
            use_cache=False,
        )
        return _Read(found.decoder_hidden_states[-1][batch.mask_BT], found.logits[batch.mask_BT])


class CausalPolicy(Policy):
    """A decoder-only model: the response goes on where the prompt ends."""

    linear_heads = ("gpt2", "llama", "mistral", "qwen2", "qwen3")

    def _read(self, batch: Sequences, encoded: Tensor | None) -> _Read:
        """Prompt and response stand side by side, padding after both, so positions are as in a text of its own."""
        begins_B = batch.prompt_mask_BP.sum(1)
        ends_B = begins_B + batch.mask_BT.sum(1)
        length = int(ends_B.max())
        places_BT = begins_B[:, None] + torch.arange(batch.responses_BT.shape[1], device=self.device)
        ids_BL = pad(batch.prompts_BP, (0, batch.responses_BT.shape[1])).scatter(1, places_BT, batch.responses_BT)
        inputs = {
            "input_ids": ids_BL[:, :length],
            "attention_mask": (torch.arange(length, device=self.device) < ends_B[:, None]).long(),
            "use_cache": False,
        }
        rows_N = batch.mask_BT.nonzero()[:, 0]
        says_N = places_BT[batch.mask_BT] - 1
        if self._is_linear:
            return _Read(self.base.base_model(**inputs)[0][rows_N, says_N])
        found = self.base(**inputs, output_hidden_states=True)
        return _Read(found.hidden_states[-1][rows_N, says_N], found.logits[rows_N, says_N])


def policy_of(model: Any, temperature: float = 1.0) -> Policy:
    """The policy for a model's architecture."""
    kind = EncoderDecoderPolicy if model.config.is_encoder_decoder else CausalPolicy
    return kind(model, temperature)


class Reference:
    """What the policy was before training: the same weights without what is trained of adapters, or a frozen copy of a
    whole model.

    Make it before anything is trained or loaded from a checkpoint.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._copy: Policy | None = None
        if not isinstance(policy.model, PeftModel):
            self._copy = copy.deepcopy(policy).requires_grad_(False)

    @torch.no_grad()
    def logprobs(self, batch: Sequences, encoded: Tensor | None = None) -> Tensor:
        """Of the responses' tokens `[B, T]`.

        Args:
            encoded: what the *policy* read in the prompts, where it is never trained and hence the same here.
        """
        if self._copy is not None:
            return self._copy.logprobs(batch, encoded)
        with self._policy.as_reference():
            return self._policy.logprobs(batch, encoded)


def _fuse_gelu(model: nn.Module) -> None:
    """GPT-2's and FLAN-T5's GELU by one kernel instead of eight, which keeps one tensor for the backward pass and not
    six; equal to float rounding."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _padded(rows: Sequence[Sequence[int]], pad_id: int, device: Any) -> tuple[Tensor, Tensor]:
    length = max(map(len, rows), default=0)
    ids_BL = torch.full((len(rows), length), pad_id)
    for row, tokens in enumerate(rows):
        ids_BL[row, : len(tokens)] = torch.as_tensor(tokens)
    lengths_B = torch.tensor([len(tokens) for tokens in rows])
    return ids_BL.to(device), (torch.arange(length) < lengths_B[:, None]).to(device)


def _placed(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    return torch.zeros(mask_BT.shape, device=mask_BT.device).masked_scatter(mask_BT, values_N)
