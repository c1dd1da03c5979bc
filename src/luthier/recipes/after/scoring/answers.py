"""What a model writes when asked: greedy, with the ends that training taught, and how good it is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from luthier.data.rendering.render import Renderer
from luthier.errors import SettingsError
from luthier.evaluation.written import WRITTEN, found_metrics
from luthier.inference.dialogue import model_stops
from luthier.inference.generate import batch_generate, context_of
from luthier.recipes.after.scoring.task import Item
from luthier.recipes.run.trainee import Trainee


@dataclass(frozen=True)
class Written:
    """One answer; `whole` says whether it came to its end."""

    text: str
    whole: bool
    note: str = ""


def wanted_metrics(items: Sequence[Item], asked: Collection[str] | None) -> tuple[str, ...]:
    """Metrics of written answers: those asked for, or what the rows call for.

    Raises:
        SettingsError: They are asked for, and no row has an answer in writing.
    """
    able = [item for item in items if item.messages and item.expected and not item.question]
    if asked is None:
        return found_metrics([item.expected for item in able]) if len(able) == len(items) else ()
    written = tuple(name for name in WRITTEN if name in asked)
    if written and len(answerable(items)) < len(items):
        missing = next(item for item in items if not (item.messages and item.expected))
        raise SettingsError(
            f"--metrics {','.join(written)}, and {missing.origin} has no answer in writing",
            why="these compare what a model writes with the answer of the row",
            fix="--metrics loss, or rows with a question and an answer",
        )
    return written


def answerable(items: Sequence[Item]) -> list[Item]:
    """The items with a question and an answer in words."""
    return [item for item in items if item.messages and item.expected]


def write_answers(
    trainee: Trainee, renderer: Renderer, items: Sequence[Item], *, max_new_tokens: int
) -> list[Written]:
    """An answer to each item; where a prompt leaves no room for one, an empty text and a note."""
    model, tokenizer = trainee.model, renderer.tokenizer
    prompts = [
        renderer.prompt(item.messages, item.tools, item.template_kwargs).tolist() for item in items
    ]
    context = context_of(model)
    able = [n for n, prompt in enumerate(prompts) if context is None or len(prompt) < context]
    made = batch_generate(
        model,
        [prompts[n] for n in able],
        max_new_tokens=max_new_tokens,
        stop_ids=renderer.stop_ids | model_stops(model),
    )
    answers = [
        Written("", False, f"its prompt of {len(prompt):,} tokens fills the model's {context:,}")
        for prompt in prompts
    ]
    for n, ids in zip(able, made, strict=True):
        room = max_new_tokens if context is None else min(max_new_tokens, context - len(prompts[n]))
        text = tokenizer.decode(ids, skip_special=True).strip()
        answers[n] = Written(text, len(ids) < room)
    return answers


def grade(
    items: Sequence[Item], answers: Sequence[Written], metrics: Sequence[str]
) -> list[Mapping[str, float]]:
    """Each answer by each metric."""
    compare = {name: WRITTEN[name]() for name in metrics}
    return [
        {name: how(item.expected, answer.text) for name, how in compare.items()}
        for item, answer in zip(items, answers, strict=True)
    ]
