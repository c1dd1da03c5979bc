"""luthier from Python: the settings of the command line as keyword arguments."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Unpack

from luthier import events
from luthier.advisor.health import Judgement, judge
from luthier.config import read
from luthier.config.keywords import SettingsKeywords
from luthier.config.launch_file import Wishes
from luthier.inference.dialogue import ChatSession, Comparison, Sampling
from luthier.json_values import JsonObject
from luthier.recipes.after.evaluate import Evaluation, evaluate_model
from luthier.recipes.after.export import Exported, export_adapter, export_merged
from luthier.recipes.after.export_gguf import export_gguf
from luthier.recipes.after.open_model import Opened, open_model
from luthier.recipes.before.preflight import preflight
from luthier.recipes.before.short_errors import short_errors
from luthier.recipes.run import train as training
from luthier.recipes.told import Teller, by_hand
from luthier.runs import RunDirectory
from luthier.runs.ended import RunResult
from luthier.shown import html_table


class Run:
    """A finished run, or any model that can be opened; the model is loaded when first needed.

    Attributes:
        name: A run directory, model folder, adapter folder, gallery name or hub id.
        ended: How training ended; None for what was only loaded.
    """

    def __init__(self, name: str, ended: RunResult | None = None) -> None:
        self.name, self.ended = name, ended

    def __repr__(self) -> str:
        return f"<Run {self.name}{f': {self._ended()}' if self.ended else ''}>"

    def _ended(self) -> str:
        assert self.ended is not None
        loss = [found.get("loss") for found in (self.ended.before, self.ended.last)]
        held = f", held-out loss {loss[0]:.4g} before, {loss[1]:.4g} after" if all(loss) else ""
        return f"{self.ended.reason} at step {self.ended.step:,}{held}"

    def _repr_html_(self) -> str:
        if self.ended is None:
            return html_table(f"Run {self.name}", [])
        figures = {"before": self.ended.before, "after": self.ended.last, "best": self.ended.best}
        names = dict.fromkeys(name for found in figures.values() for name in found)
        rows = [
            {"held out": name, **{when: found.get(name) for when, found in figures.items()}}
            for name in names
        ]
        return html_table(f"{self.name}: {self._ended()}", rows, below=f"result: {self.result}")

    @property
    def path(self) -> Path:
        """The run directory.

        Raises:
            RunNotFoundError: This is not a run.
        """
        return RunDirectory.open(self.name).path

    @property
    def result(self) -> Path:
        """The folder of adapter or model, tokenizer and card."""
        return RunDirectory.open(self.name).result

    @cached_property
    def opened(self) -> Opened:
        """Model, tokenizer and rendering, loaded."""
        return open_model(self.name)

    def events(self) -> list[JsonObject]:
        """Every event of the run: steps, evaluations, checkpoints."""
        return list(events.read(RunDirectory.open(self.name).events_file))

    def judgements(self) -> list[Judgement]:
        """How the run went, as its events show: overfitting, a plateau, too high a learning rate,
        the health of DPO; each with its numbers and the action to take."""
        return judge(events.read_events(RunDirectory.open(self.name).events_file))

    def session(
        self, *, system_prompt: str | None = None, sampling: Sampling | None = None
    ) -> ChatSession:
        """A dialogue with history and streaming."""
        return self.opened.chat(system_prompt=system_prompt, sampling=sampling)

    def chat(
        self,
        text: str,
        *,
        system_prompt: str | None = None,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> str:
        """The answer to one message.

        Args:
            system_prompt: None uses the one of the training.
            temperature: 0 always takes the likeliest token; above 0 draws.
        """
        sampling = Sampling(max_new_tokens, temperature, top_p, seed)
        return "".join(self.session(system_prompt=system_prompt, sampling=sampling).send(text))

    def compare(self, text: str, *, max_new_tokens: int = 512) -> Comparison:
        """What the base and the tuned model answer.

        Raises:
            AdapterError: There is no adapter that could be switched off.
        """
        return self.session(sampling=Sampling(max_new_tokens)).compare(text)


@short_errors
def train(
    config: str | Path | None = None,
    *,
    on_event: Callable[[events.Event], None] | None = None,
    ignore_plan: bool = False,
    **settings: Unpack[SettingsKeywords],
) -> Run:
    """Fine-tune a model.

    Args:
        config: A YAML file of settings; keyword arguments win over it.
        on_event: Called with every event while the run lives.  Not given: at a prompt and in a
            notebook the run tells of itself, in a program it is silent.
        ignore_plan: Train although the plan says that it does not fit.
        settings: Any setting of `luthier train --help`, by name.

    Raises:
        LuthierError: With what went wrong, why, and what would make it work.

    Example:
        run = luthier.train(model="starter", dataset="rows.jsonl", method="lora")
        run.chat("Good morning")
    """
    resolved = read.load(Path(config) if config is not None else None, arguments=settings)
    preflight(resolved)
    if on_event is None and by_hand():
        on_event = Teller()
    ended = training.run(resolved, on_event=on_event, wishes=Wishes(ignore_plan=ignore_plan))
    return Run(str(ended.path), ended)


@short_errors
def load(name: str | Path) -> Run:
    """A run or a model to chat with, by path, gallery name or hub id."""
    return Run(str(name))


@short_errors
def evaluate(
    name: str | Path | Run, dataset: str | Sequence[str], *, objective: str | None = None
) -> Evaluation:
    """Held-out figures of a run or a model, the base beside it if it is an adapter.

    Args:
        objective: For what is no run: sft or text; else that of the training.

    Raises:
        LuthierError: As in training: data, model, memory.
    """
    files = [dataset] if isinstance(dataset, str) else list(dataset)
    return evaluate_model(_name(name), files, objective=objective)


class Answers(list[dict[str, str]]):
    """What several models answered: for each question its text and the answer of each model."""

    def _repr_html_(self) -> str:
        return html_table("Answers", self)


@short_errors
def compare(
    names: Sequence[str | Path | Run], prompts: str | Sequence[str], *, max_new_tokens: int = 256
) -> Answers:
    """What several runs or models answer to the same questions; one model is in memory at a time.

    Raises:
        LuthierError: A model cannot be opened.
    """
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    found = [{"question": text} for text in asked]
    for name in map(_name, names):
        session = load(name).session(sampling=Sampling(max_new_tokens))
        for row in found:
            session.reset()
            row[name] = "".join(session.send(row["question"])).strip()
    return Answers(found)


@short_errors
def export(
    name: str | Path | Run,
    output: str | Path,
    *,
    to: Literal["adapter", "merged", "gguf"] = "merged",
    torch_dtype: str = "auto",
    quant: str = "auto",
) -> Exported:
    """Write the result of a run for use elsewhere: the adapter, base and adapter in one, or GGUF.

    Args:
        output: A folder that does not exist yet.
        torch_dtype: Of a merged model; `auto` is that of the training.
        quant: Storage of a GGUF file: f32, f16, bf16, q8_0; `auto` is bf16 or f16.

    Raises:
        LuthierError: There is nothing of that form, or `output` exists.
    """
    if to == "adapter":
        return export_adapter(_name(name), Path(output))
    if to == "gguf":
        return export_gguf(_name(name), Path(output), quant=quant)
    return export_merged(_name(name), Path(output), torch_dtype=torch_dtype)


def _name(name: str | Path | Run) -> str:
    return name.name if isinstance(name, Run) else str(name)
