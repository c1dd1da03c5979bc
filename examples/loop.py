"""Fine-tune a model with luthier's own pieces, in one flat file: read it from top to bottom.

    python examples/loop.py --model starter --dataset rows.jsonl --output adapter

`luthier train` is this loop with everything around it that a long run needs: a plan, checkpoints,
evaluation, monitoring, several devices, memory that runs out.  The numbers are the same, which
`tests/examples/test_loop.py` holds: LoRA, SFT, one device, float32, no dropout.

S: supervised targets.  D: width of the model.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import torch

from luthier.data.load import load_samples
from luthier.data.packing.pack import pack
from luthier.data.packing.steps import StepPlanner
from luthier.data.prepare import prepare
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.engine.distribution import Ranks
from luthier.engine.optim import Updater
from luthier.engine.schedule import learning_rate_at, warmup_steps
from luthier.models.adapter_files import save_adapter
from luthier.models.adapters import attach
from luthier.models.fuse import fuse
from luthier.models.load import load_base
from luthier.models.scorer import Scorer
from luthier.objectives.sft import sft
from luthier.sources.source import resolve_source


def train(
    model_name: str,
    dataset: str,
    *,
    output: Path | None = None,
    learning_rate: float = 2e-4,
    num_train_epochs: float = 1.0,
    samples_per_step: int = 16,
    micro_batch_tokens: int = 2048,
    seq_length: int = 512,
    lora_dim: int = 32,
    warmup_ratio: float = 0.03,
    seed: int = 0,
) -> list[float]:
    """Train a LoRA adapter; returns the mean loss of every optimiser step, nats per learned token."""
    # Rows to token ids.  A row is rendered through the chat template, and every token has a weight
    # as a target: 1 where the assistant speaks, 0 elsewhere.
    source = resolve_source(model_name)
    tokenizer = Tokenizer.from_folder(source.tokenizer)
    template, _ = choose_template(
        tokenizer,
        setting=None,
        gallery_template=source.family.chat_template,
        now=datetime.now(UTC),
    )
    renderer = Renderer(tokenizer, template, seq_length=seq_length)
    examples = prepare(load_samples(dataset), renderer).examples

    # The base is frozen; its norms, gated products and layers are replaced, on this instance, by
    # forms that keep less for backward.  An adapter starts at B = 0: the outputs do not change yet.
    model = load_base(source.base, dtype=torch.float32)
    fuse(model)
    adapters = attach(
        model,
        rank=lora_dim,
        alpha=float(lora_dim),
        targets=list(source.family.lora_targets),
        seed=seed,
    )
    scorer = Scorer(model, adapters=adapters, packed=source.family.packable, seed=seed)

    # Which samples a step sees is a function of (seed, step), so there is no sampler to save.
    planner = StepPlanner(
        examples,
        seed=seed,
        samples_per_step=samples_per_step,
        micro_batch_tokens=micro_batch_tokens,
        share=True,
        max_sequences=None if source.family.packable else 1,
        num_train_epochs=num_train_epochs,
    )
    updater = Updater(dict(adapters.named_trained()), seed=seed)
    updater.allocate()

    losses = []
    for step in range(1, planner.num_steps + 1):
        # The units of a step (here: the weight of what is learned) are counted before any forward
        # pass.  Every micro-batch adds a *sum* over them, so the cut cannot change the update.
        samples = planner.samples(step)
        units = sum(
            float(sequence.weights.sum())
            for sample in samples
            for sequence in examples[sample].sequences
        )
        loss = 0.0
        for cut in planner.micro_batches(step):
            # Sequences as a prefix tree in one row: what several begin with is computed once.
            batch = pack([sequence for sample in cut for sequence in examples[sample].sequences])
            scores = scorer(batch, step=step)
            terms = sft(scores.logp_S, weight_S=torch.from_numpy(batch.target_weight))
            (terms.loss_sum / units).backward()
            loss += float(terms.loss_sum.detach())
        updater.prepare(Ranks())  # clips; with several devices the gradients are added here
        updater.apply(
            learning_rate_at(
                step,
                peak=learning_rate,
                schedule="cosine",
                num_steps=planner.num_steps,
                num_warmup=warmup_steps(warmup_ratio, planner.num_steps),
            )
        )
        losses.append(loss / units)

    if output is not None:
        output.mkdir(parents=True)
        save_adapter(adapters, output, model_name)  # in PEFT's format
    return losses


def main() -> None:
    """Read the command line, train, and print the loss of every step."""
    parser = argparse.ArgumentParser(description="Fine-tune with luthier's own pieces.")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    losses = train(given.model, given.dataset, output=given.output)
    for step, loss in enumerate(losses, start=1):
        print(f"step {step}/{len(losses)}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
