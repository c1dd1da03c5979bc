"""From a packed micro-batch to the log-probability of each of its targets.

T: tokens of the row.  S: supervised targets.  D: hidden size.  V: vocabulary.

The body of the model runs once over the whole row, the head only over the rows that predict a
target.  Models whose layers mix tokens other than through attention run one sequence at a time,
with their own attention: slower, never wrong.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from luthier.errors import ArchitectureError
from luthier.kernels.attention import TreeLayout
from luthier.kernels.attention.layout import BatchLike, TreeCall
from luthier.kernels.head_logprob import head_logprob
from luthier.models.adapters import Adapters
from luthier.models.build import generation_mode, own_attention
from luthier.models.noise import EmbeddingNoise

Checkpointing = Literal["none", "full"]
_SEQUENCES = 1024  # room for so many sequences of a sample in one number


class Batch(BatchLike, Protocol):
    """What is read of a packed batch (`luthier.data.packing.pack`)."""

    @property
    def ids(self) -> NDArray[np.int32]: ...
    @property
    def positions(self) -> NDArray[np.int32]: ...
    @property
    def target_row(self) -> NDArray[np.int32]: ...
    @property
    def target_token(self) -> NDArray[np.int32]: ...
    @property
    def target_sequence(self) -> NDArray[np.int32]: ...
    @property
    def sample_T(self) -> NDArray[np.int64]: ...  # noqa: N802


class Scores(NamedTuple):
    """Per target: its log-probability in nats, and whether it was the most likely token."""

    logp_S: Tensor
    top1_S: Tensor


class Head(NamedTuple):
    """What turns a hidden state into logits beside the matrix."""

    softcap: float | None
    scale: float


class Scorer:
    """Scores micro-batches with one model.

    Args:
        model: From `load_base`, with or without an adapter.
        device: Where the model is.
        packed: Run the whole row at once; needs a family that allows it.
        adapters: Those on the model, if any: their dropout needs the tokens.
        checkpointing: `full` keeps only the input of each layer and computes it again in backward.
        noise_alpha: Size of the noise on embeddings while a step is trained; 0 has none.
        seed: Of the run; dropout masks and noise are a function of it.

    Raises:
        ArchitectureError: Layers cannot be recomputed, or the head of a family that runs unpacked
            does something that is not known here.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        device: torch.device | str = "cpu",
        packed: bool = True,
        adapters: Adapters | None = None,
        checkpointing: Checkpointing = "none",
        noise_alpha: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.model, self.device, self.packed = model, torch.device(device), packed
        self.adapters, self.seed = adapters, seed
        self.head, self._longest = head_of(model.config), longest_packed(model.config)
        self._noise = None
        if noise_alpha > 0:
            self._noise = EmbeddingNoise(model.get_input_embeddings(), noise_alpha)
        if not packed:
            model.set_attn_implementation(own_attention(model.config))
            check_head(model)
        _set_checkpointing(model, checkpointing, self._again)

    def __call__(self, batch: Batch, *, step: int | None = None) -> Scores:
        """Score every target of a micro-batch, with gradient where enabled.

        Args:
            batch: Packed.
            step: Optimiser step being trained, 1-based: dropout is on.  None: it is off.
        """
        training = step is not None
        if self.model.training != training:  # only this decides whether layers are computed again
            self.model.train(training)
        run = self._packed if self.packed else self._one_by_one
        hidden_SD = run(batch, step)
        if self._noise is not None:
            self._noise.clear()  # whoever runs the model next has none
        head = self.model.get_output_embeddings()
        logp_S, top1_S = head_logprob(
            hidden_SD,
            head.weight,
            self._tensor(batch.target_token),
            bias_V=getattr(head, "bias", None),
            softcap=self.head.softcap,
            scale=self.head.scale,
        )
        return Scores(logp_S, top1_S)

    def _packed(self, batch: Batch, step: int | None) -> Tensor:
        if self._longest is not None and int(batch.positions.max()) >= self._longest:
            # Rotary positions depend on the longest sequence of a row: each gets its own.
            return self._one_by_one(batch, step)
        self._set_dropout(step, batch.sample_T, batch.nodes, batch.positions)
        hidden_TD = self.model.base_model(
            input_ids=self._tensor(batch.ids)[None],
            position_ids=self._tensor(batch.positions)[None],
            tree=TreeLayout.from_batch(batch, self.device),
            use_cache=False,
        ).last_hidden_state[0]
        chosen_SD: Tensor = hidden_TD.index_select(0, self._tensor(batch.target_row))
        return chosen_SD

    def _one_by_one(self, batch: Batch, step: int | None) -> Tensor:
        numbers_T = _sequence_numbers(batch.sample_T, batch.nodes)
        parts, orders = [], []
        for sequence in np.unique(batch.target_sequence):
            chosen = np.flatnonzero(batch.target_sequence == sequence)
            rows_L = _path_rows(batch, int(batch.target_row[chosen].max()))
            self._set_keys(step, numbers_T[rows_L], batch.positions[rows_L])
            alone = {"tree": _alone(len(rows_L), self.device)} if self.packed else {}
            hidden_LD = self.model.base_model(
                input_ids=self._tensor(batch.ids[rows_L])[None], use_cache=False, **alone
            ).last_hidden_state[0]
            # A row's depth in the tree is its place in its sequence.
            parts.append(
                hidden_LD.index_select(0, self._tensor(batch.positions[batch.target_row[chosen]]))
            )
            orders.append(chosen)
        back_S = np.argsort(np.concatenate(orders))
        return torch.cat(parts).index_select(0, self._tensor(back_S))

    def _again(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around a layer's forward pass, and around its repetition in backward: the same tokens.

        Of several sequences that run one at a time, the last one's would drop out otherwise.
        """
        if self.adapters is None:
            return nullcontext(), nullcontext()
        return nullcontext(), self.adapters.switch.keys.held()

    def _set_dropout(
        self,
        step: int | None,
        sample_T: NDArray[np.int64],
        nodes: Sequence[object],
        positions_T: NDArray[np.int32],
    ) -> None:
        dropping = self.adapters is not None and self.adapters.shared.dropout > 0
        random = step is not None and (dropping or self._noise is not None)
        numbers_T = _sequence_numbers(sample_T, nodes) if random else sample_T
        self._set_keys(step, numbers_T, positions_T)

    def _set_keys(
        self, step: int | None, numbers_T: NDArray[np.int64], positions_T: NDArray[np.int32]
    ) -> None:
        if self._noise is not None:
            self._noise.clear()
            if step is not None:
                numbers, positions = self._tensor(numbers_T), self._tensor(positions_T)
                self._noise.set(seed=self.seed, step=step, sample_T=numbers, position_T=positions)
        if self.adapters is None:
            return
        switch = self.adapters.switch
        switch.dropping = step is not None and self.adapters.shared.dropout > 0
        switch.keys.clear()
        if step is not None and switch.dropping:
            switch.keys.set(
                seed=self.seed,
                step=step,
                sample_T=self._tensor(numbers_T),
                position_T=self._tensor(positions_T),
            )

    def _tensor(self, array: NDArray[np.int32] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, torch.int64)


def head_of(config: PretrainedConfig) -> Head:
    """The soft cap and the factor that a family puts on its logits."""
    text = config.get_text_config()
    divisor = getattr(text, "logits_scaling", None)  # Granite
    factor = getattr(text, "logit_scale", None)  # Cohere
    scale = 1 / divisor if divisor else 1.0
    return Head(
        softcap=getattr(text, "final_logit_softcapping", None),
        scale=scale * (factor if factor else 1.0),
    )


def longest_packed(config: PretrainedConfig) -> int | None:
    """Tokens up to which rotary positions do not depend on what else is in the row; None: always."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]  # one a layer type
    limits = [
        int(kind.get("original_max_position_embeddings") or text.max_position_embeddings)
        for kind in kinds
        if kind.get("rope_type") in ("dynamic", "longrope")
    ]
    return min(limits, default=None)


@torch.no_grad()
def check_head(model: PreTrainedModel, *, num_tokens: int = 8) -> None:
    """Compare our log-probabilities with the model's own logits, on a few tokens.

    For families nobody has tested: a factor or a cap on the logits that is not known here would
    train another model in silence.

    Raises:
        ArchitectureError: They differ.
    """
    device = model.get_input_embeddings().weight.device
    rows = min(num_tokens + 1, model.config.get_text_config().vocab_size)
    ids_T = torch.arange(rows, device=device)
    head, extra = model.get_output_embeddings(), head_of(model.config)
    with generation_mode(model):
        logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1].float()
        hidden_TD = model.base_model(input_ids=ids_T[None], use_cache=False).last_hidden_state[
            0, :-1
        ]
    ours_T, _ = head_logprob(
        hidden_TD,
        head.weight,
        ids_T[1:],
        bias_V=getattr(head, "bias", None),
        softcap=extra.softcap,
        scale=extra.scale,
    )
    theirs_T = logits_TV.log_softmax(-1).gather(-1, ids_T[1:, None])[:, 0]
    tolerance = 1e-3 if hidden_TD.dtype == torch.float32 else 5e-2
    worst = float((ours_T - theirs_T).abs().max())
    if not worst <= tolerance * max(1.0, float(theirs_T.abs().max())):
        raise ArchitectureError(
            f"the head of {model.config.model_type} does something that luthier does not know",
            why=f"log-probabilities differ by {worst:.3g} from the model's own",
            fix="choose a model of a known family: luthier gallery list",
        )


def _path_rows(batch: Batch, last_row: int) -> NDArray[np.int64]:
    """The rows of the sequence that reads up to a row: its ancestors', then its own."""
    node = next(node for node in batch.nodes if node.start <= last_row < node.stop)
    spans = (*node.path, (node.start, last_row + 1))
    return np.concatenate([np.arange(start, stop) for start, stop in spans])


def _sequence_numbers(sample_T: NDArray[np.int64], nodes: Sequence[object]) -> NDArray[np.int64]:
    """A number for the sequence of each token, the same in every cut.

    The sequences of a sample stay together and in order, so the n-th root of a sample is its n-th
    sequence: chosen and rejected get masks of their own.
    """
    numbers_T = sample_T.astype(np.int64) * _SEQUENCES
    seen: Counter[int] = Counter()
    current = 0
    for node in nodes:
        start, stop, path = node.start, node.stop, node.path  # type: ignore[attr-defined]
        if not path:
            sample = int(sample_T[start])
            current = seen[sample]
            seen[sample] += 1
        numbers_T[start:stop] += current
    return numbers_T


def _alone(length: int, device: torch.device) -> TreeLayout:
    """The tree of one sequence that shares nothing."""
    return TreeLayout(
        num_tokens=length,
        nodes=((0, length, ()),),
        max_depth=length,
        max_q=length,
        device=device,
        tree_calls=(TreeCall(0, length, 0, length, True),),
    )


def _set_checkpointing(
    model: PreTrainedModel,
    checkpointing: Checkpointing,
    again: Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]],
) -> None:
    layers = [
        module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)
    ]
    full = checkpointing == "full"
    if full and not layers:
        raise ArchitectureError(
            f"{model.config.model_type} cannot compute its layers again",
            why="transformers offers no gradient checkpointing for it",
            fix="--gradient_checkpointing none",
        )
    for layer in layers:
        layer.gradient_checkpointing = full
        # Not the reentrant form: with a frozen embedding it gives adapters no gradient at all.
        # Nothing random is left in a layer whose state would have to be kept.
        layer._gradient_checkpointing_func = partial(
            checkpoint, use_reentrant=False, preserve_rng_state=False, context_fn=again
        )
