"""PPO of a language model, encoder-decoder or causal (Schulman et al. 2017; Ziegler et al. 2019, Stiennon et al. 2020).

An iteration samples a response to each of its prompts, has them rewarded, prices each token's KL to the reference, and
takes `epochs` x `minibatches` optimizer steps on the clipped objective.

    trainer = PpoTrainer(policy_of(model), tokenizer, prompts, reward, PpoSettings())
    for figures in trainer.train():
        print(figures["reward"], figures["kl"])

All ranks hold the same policy. What is drawn depends on the seed and on positions in the whole batch, all means are
over the whole batch, and gradients are summed: one rank and several take the same steps, to float rounding. The reward
is called on every rank with *all* texts, so what it remembers is the same everywhere; who does not want to compute it
several times shares out its scorer (`detox.alignment.building.SharedScorer`).

Shapes: B rows, T response tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from detox.alignment.experience import Experience, Minibatch, minibatches_of
from detox.alignment.kl import kl_estimate
from detox.alignment.logprobs import Entropy
from detox.alignment.losses import Moments, gae, policy_loss, token_rewards, value_loss, whitened
from detox.alignment.policy import Evaluated, Policy, Reference
from detox.alignment.ppo_settings import PpoSettings
from detox.alignment.ppo_setup import Prompt, autocast_dtype, check_ppo, kl_controller, lr_share
from detox.alignment.ranks import Ranks
from detox.alignment.rollout import PolicyRollout, Response, Rollout
from detox.alignment.scores import Reward, ScoreNormaliser, scores_of
from detox.alignment.steps import steps_of

Figures = dict[str, float]


class DivergedError(RuntimeError):
    """Training that has gone wrong; its last checkpoints may have, too."""


class TrainerState(NamedTuple):
    """What a reward is told of the training, under TRL's names."""

    global_step: int
    max_steps: int


class PpoTrainer:
    """Takes a policy through its iterations.

    Args:
        policy: with the value head; on its device.
        prompts: of the whole run, the same on every rank. Each is used once before any is used again.
        reward: see `detox.alignment.scores.Reward`.
        rollout: samples responses; None: by the policy itself.
        seed: of the order of the prompts and of sampling.

    Raises:
        ValueError: fewer prompts than an iteration takes, one that is empty or, with its response, longer than the
            model reads, or more ranks than a minibatch has prompts.
    """

    def __init__(
        self,
        policy: Policy,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        reward: Reward,
        settings: PpoSettings,
        rollout: Rollout | None = None,
        seed: int = 0,
    ) -> None:
        self._policy, self._tokenizer, self._prompts = policy, tokenizer, prompts
        self._reward, self._settings, self._seed = reward, settings, seed
        self._ranks = Ranks()
        check_ppo(policy, tokenizer, prompts, settings, self._ranks)
        self._reference = Reference(policy)
        if settings.gradient_checkpointing:
            policy.model.activation_checkpointing_enable()
        self._rollout = rollout or PolicyRollout(policy, settings.max_new_tokens)
        self._trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        self._steps = steps_of(settings, self._trained, self._ranks)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._steps.optimizer, lr_share(settings))
        self.kl_controller = kl_controller(settings)
        self._normaliser = ScoreNormaliser(settings.score)
        self._dtype = autocast_dtype(settings.precision)
        self.iteration = 0
        """How many are done."""

    def train(self) -> Iterator[Figures]:
        """The iterations that are left, and the figures of each."""
        while self.iteration < self._settings.iterations:
            yield self.step()

    def step(self) -> Figures:
        """One iteration.

        Returns:
            its figures, the same on every rank: `reward` and `reward_std` of the responses before scaling, `kl` in nats
            a response, `kl_coefficient`, `entropy`, `length`, `ended` (share), `policy_loss`, `value_loss`, `clipped`
            (share of tokens), `step_kl` (nats a token between the policy that sampled and that before the last update),
            `explained` (share of the returns' variance that the values explain), `grad_norm`, `updates`, `lr`.

        Raises:
            RewardError: the reward failed.
            DivergedError: a loss, a gradient or a weight is no number, or the KL is beyond `kl.abort_above`.
        """
        prompts, numbers = self._drawn()
        mine = self._ranks.mine(range(len(prompts)))
        samples = self._settings.samples
        ids = [prompts[at].ids for at in mine for _ in range(samples)]
        keys = [numbers[at] * samples + sample for at in mine for sample in range(samples)]
        with torch.no_grad(), self._autocast():
            responses = self._rollout(ids, keys, self._seed)
        rewards_N = self._rewarded(prompts, responses)
        scores_N = self._normaliser(rewards_N).reshape(len(prompts), samples)[mine].reshape(-1)
        penalty = self._settings.score.missing_eos
        scores_N = scores_N - penalty * np.array([not response.ended for response in responses])
        minibatches = self._minibatches(ids, responses, mine)
        order = self._order(len(minibatches))
        self._evaluate(minibatches, minibatches[order[0]].parts[0])
        figures = self._appraise(minibatches, scores_N)
        figures |= self._update([minibatches[at] for at in order])
        self._check_weights()
        self.kl_controller.update(figures["kl"], len(rewards_N))
        self.iteration += 1
        lengths = torch.tensor([[len(response.tokens), response.ended] for response in responses], dtype=torch.float64)
        length, ended = self._ranks.total(lengths.sum(0).to(self._policy.device)).tolist()
        return figures | {
            "reward": float(rewards_N.mean()),
            "reward_std": float(rewards_N.std()),
            "length": length / len(rewards_N),
            "ended": ended / len(rewards_N),
            "kl_coefficient": self.kl_controller.coefficient,
            "lr": self._schedule.get_last_lr()[0],
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next iteration depends on, weights included; the reference is not among it.

        Every rank must call it; that of rank 0 is whole.
        """
        trained = {name: value for name, value in self._policy.named_parameters() if value.requires_grad}
        return {
            "iteration": self.iteration,
            "weights": {name: value.detach().cpu() for name, value in trained.items()},
            "optimizer": self._steps.state_dict(),
            "schedule": self._schedule.state_dict(),
            "kl_controller": self.kl_controller.state_dict(),
            "normaliser": self._normaliser.state_dict(),
            "reward": self._reward.state_dict() if hasattr(self._reward, "state_dict") else {},
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: it is of another model.
        """
        trained = {name: value for name, value in self._policy.named_parameters() if value.requires_grad}
        if state["weights"].keys() != trained.keys():
            raise ValueError(
                "the checkpoint holds other weights than this policy trains: its model or its adapters were others; "
                "start a run under another name"
            )
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state["weights"][name])
        self.iteration = state["iteration"]
        self._steps.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.kl_controller.load_state_dict(state["kl_controller"])
        self._normaliser.load_state_dict(state["normaliser"])
        if hasattr(self._reward, "load_state_dict"):
            self._reward.load_state_dict(state["reward"])
        torch.set_rng_state(state["torch_rng"])

    def _drawn(self) -> tuple[list[Prompt], list[int]]:
        """The prompts of this iteration, and their numbers among all that are ever drawn."""
        count, every = self._settings.prompts, len(self._prompts)
        numbers = list(range(self.iteration * count, (self.iteration + 1) * count))
        orders = {
            epoch: np.random.default_rng([self._seed, epoch]).permutation(every)
            for epoch in {number // every for number in numbers}
        }
        return [self._prompts[orders[number // every][number % every]] for number in numbers], numbers

    def _rewarded(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> np.ndarray:
        """Of all ranks' responses, in the order of the prompts."""
        samples = self._settings.samples
        mine = [[list(one.tokens) for one in responses[at : at + samples]] for at in range(0, len(responses), samples)]
        tokens = [one for group in self._ranks.gathered(mine) for one in group]
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        asked = [prompt for prompt in prompts for _ in range(samples)]
        columns = {name: [prompt.columns[name] for prompt in asked] for name in prompts[0].columns}
        state = TrainerState(self.iteration, self._settings.iterations)
        more = columns | {"completion_ids": tokens, "trainer_state": state}
        return scores_of(self._reward, [prompt.text for prompt in asked], texts, more)

    def _minibatches(
        self, ids: Sequence[Sequence[int]], responses: Sequence[Response], mine: Sequence[int]
    ) -> list[Minibatch]:
        settings = self._settings
        groups = [at * settings.minibatches // settings.prompts for at in mine for _ in range(settings.samples)]
        pad_id = int(self._tokenizer.pad_token_id)  # type: ignore[arg-type]
        tokens = [response.tokens for response in responses]
        budget, device = settings.tokens_per_forward, self._policy.device
        return minibatches_of(ids, tokens, groups, settings.minibatches, budget, pad_id, device, self._ranks)

    def _order(self, minibatches: int) -> list[int]:
        """Of all optimizer steps of this iteration: which minibatch each learns from."""
        rng = np.random.default_rng([self._seed, 1, self.iteration])
        return [int(at) for _ in range(self._settings.epochs) for at in rng.permutation(minibatches)]

    @torch.no_grad()
    def _evaluate(self, minibatches: Sequence[Minibatch], first: Experience) -> None:
        """What policy and reference gave to the responses before any update.

        Args:
            first: learnt from before any weight changes, when the policy still gives the same: its pass is kept for
                that, and made last, so that no other stands beside it in memory.
        """
        self._policy.train()
        for part in [*(part for part in _parts(minibatches) if part is not first), first]:
            with self._autocast():
                part.encoded = self._policy.encode(part.batch)
                part.reference_BT = self._reference.logprobs(part.batch, part.encoded)
                if part is first:
                    part.ahead = found = self._learnt(part, "value")
                else:
                    found = self._policy.evaluate(part.batch, part.encoded)
            part.old_BT, part.values_BT, part.entropy_BT = (each.detach() for each in found)  # type: ignore[union-attr]

    def _appraise(self, minibatches: Sequence[Minibatch], scores_N: np.ndarray) -> Figures:
        """Rewards of the tokens, advantages and returns."""
        settings, kl = self._settings, self._settings.kl
        coefficient = self.kl_controller.coefficient if kl.place == "reward" else 0.0
        parts = _parts(minibatches)
        for part in parts:
            scores_B = torch.from_numpy(scores_N[part.rows]).float().to(self._policy.device)
            kl_BT = kl_estimate(part.old_BT, part.reference_BT, kl.estimator)
            part.rewards_BT = token_rewards(scores_B, kl_BT, part.batch.mask_BT, coefficient)
        if settings.score.whiten:
            moments = self._moments(parts, "rewards_BT")
            for part in parts:
                part.rewards_BT = whitened(part.rewards_BT, part.batch.mask_BT, moments, shift=False)
        for part in parts:
            found = gae(part.rewards_BT, part.values_BT, part.batch.mask_BT, settings.gamma, settings.lam)
            part.advantages_BT, part.returns_BT = found
        returns = self._moments(parts, "returns_BT")
        errors = self._summed([((part.returns_BT - part.values_BT).square() * part.weight_BT).sum() for part in parts])
        if settings.whiten_advantages:
            moments = self._moments(parts, "advantages_BT")
            for part in parts:
                part.advantages_BT = whitened(part.advantages_BT, part.batch.mask_BT, moments)
        nats = self._summed([((part.old_BT - part.reference_BT) * part.weight_BT).sum() for part in parts])
        entropy = self._summed([(part.entropy_BT * part.weight_BT).sum() for part in parts])
        kl_mean = nats / (settings.prompts * settings.samples)
        if not math.isfinite(kl_mean) or kl_mean > kl.abort_above:
            raise DivergedError(
                f"in iteration {self.iteration} the policy is {kl_mean:.1f} nats a response from its reference, and "
                f"kl.abort_above is {kl.abort_above}: start again under another name with a lower lr, or a higher "
                "kl.coefficient"
            )
        spread = float(returns.variance * returns.number)
        explained = 1 - errors / spread if spread > 0 else 0.0
        return {"kl": kl_mean, "entropy": entropy / float(returns.number), "explained": explained}

    def _update(self, minibatches: Sequence[Minibatch]) -> Figures:
        """An optimizer step on each, in their order; stops early where one shows that the policy has gone too far."""
        self._policy.train()
        sums, tokens = torch.zeros(4, device=self._policy.device), 0.0
        norms: list[float] = []
        for minibatch in minibatches:
            found = self._gradients(minibatch)
            step_kl = float(found[3]) / minibatch.tokens
            sums, tokens = sums + found, tokens + minibatch.tokens
            if self._settings.stop_kl and step_kl > self._settings.stop_kl:
                return self._update_figures(sums, tokens, norms, step_kl)
            norms.append(self._take_step())
        return self._update_figures(sums, tokens, norms, step_kl)

    def _gradients(self, minibatch: Minibatch) -> Tensor:
        """Accumulate them over the parts; sums over the tokens of policy loss, value loss, clipped and step KL."""
        settings = self._settings
        self._steps.clear()
        sums = torch.zeros(4, device=self._policy.device)
        for part in minibatch.parts:
            now, part.ahead = part.ahead or self._learnt(part), None
            policy = policy_loss(now.logprobs_BT, part.old_BT, part.advantages_BT, settings.clip)
            value_BT = value_loss(now.values_BT, part.values_BT, part.returns_BT, settings.value_clip)
            loss_BT = policy.losses_BT + settings.value_coefficient * value_BT
            if settings.entropy_coefficient and now.entropy_BT is not None:
                loss_BT = loss_BT - settings.entropy_coefficient * now.entropy_BT
            if settings.kl.place == "loss":
                kl_BT = kl_estimate(now.logprobs_BT, part.reference_BT, settings.kl.estimator)
                loss_BT = loss_BT + self.kl_controller.coefficient * kl_BT
            ((loss_BT * part.weight_BT).sum() / minibatch.tokens).backward()
            self._steps.passed()
            with torch.no_grad():
                gone_BT = kl_estimate(part.old_BT, now.logprobs_BT, "k3")
                each = (policy.losses_BT, value_BT, policy.clipped_BT, gone_BT)
                sums += torch.stack([(values_BT * part.weight_BT).sum() for values_BT in each])
        self._ranks.total(sums)
        if not bool(sums.isfinite().all()):
            raise DivergedError(
                f"in iteration {self.iteration} the loss is {sums[:2].tolist()}, which is no number: start "
                "again under another name with a lower lr"
            )
        return sums

    def _learnt(self, part: Experience, entropy: Entropy = "none") -> Evaluated:
        """What the policy gives now, with its gradient.

        Args:
            entropy: what is wanted of it where the loss wants nothing.
        """
        wanted: Entropy = "gradient" if self._settings.entropy_coefficient else entropy
        with torch.enable_grad(), self._autocast():
            return self._policy(part.batch, part.encoded, wanted)

    def _take_step(self) -> float:
        norm = self._steps.clip(self._settings.max_grad_norm)
        if not math.isfinite(norm):
            raise DivergedError(
                f"in iteration {self.iteration} the gradient is no number: start again under another name with a "
                "lower lr"
            )
        self._steps.step()
        self._schedule.step()
        return norm

    def _check_weights(self) -> None:
        """Before they are kept: the last iteration has no rollout after it that would show them."""
        ruined = torch.stack([~weight.isfinite().all() for weight in self._trained]).sum()
        if int(self._ranks.total(ruined)):
            raise DivergedError(
                f"after the updates of iteration {self.iteration} weights are no numbers: start again under another "
                "name with a lower lr"
            )

    def _update_figures(self, sums: Tensor, tokens: float, norms: Sequence[float], step_kl: float) -> Figures:
        policy, value, clipped, _ = (sums / tokens).tolist()
        return {
            "policy_loss": policy,
            "value_loss": value,
            "clipped": clipped,
            "step_kl": step_kl,
            "grad_norm": float(np.mean(norms)) if norms else 0.0,
            "updates": float(len(norms)),
        }

    def _moments(self, parts: Sequence[Experience], name: str) -> Moments:
        each = [torch.stack(Moments.of(getattr(part, name), part.weight_BT)) for part in parts]
        return Moments(*self._ranks.total(torch.stack(each).sum(0)))

    def _summed(self, values: Sequence[Tensor]) -> float:
        return float(self._ranks.total(torch.stack(list(values)).double().sum()))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._policy.device.type, self._dtype)


def _parts(minibatches: Sequence[Minibatch]) -> list[Experience]:
    return [part for minibatch in minibatches for part in minibatch.parts]
