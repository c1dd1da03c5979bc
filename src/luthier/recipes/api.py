"""luthier from Python: the settings of the command line as keyword arguments."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier import events
from luthier.advisor.health import Judgement, judge
from luthier.config import read
from luthier.config.launch_file import Wishes
from luthier.inference.dialogue import ChatSession, Comparison, Sampling
from luthier.json_values import JsonObject
from luthier.recipes.after.open_model import Opened, open_model
from luthier.recipes.before.preflight import preflight
from luthier.recipes.run import train as training
from luthier.runs import RunDirectory
from luthier.runs.ended import RunResult


class Run:
    """A finished run, or any model that can be opened; the model is loaded when first needed.

    Attributes:
        name: A run directory, model folder, adapter folder, gallery name or hub id.
        ended: How training ended; None for what was only loaded.
    """

    def __init__(self, name: str, ended: RunResult | None = None) -> None:
        self.name, self.ended = name, ended

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


def train(
    config: str | Path | None = None,
    *,
    on_event: Callable[[events.Event], None] | None = None,
    ignore_plan: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune a model.

    Args:
        config: A YAML file of settings; keyword arguments win over it.
        on_event: Called with every event while the run lives.
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
    ended = training.run(resolved, on_event=on_event, wishes=Wishes(ignore_plan=ignore_plan))
    return Run(str(ended.path), ended)


def load(name: str | Path) -> Run:
    """A run or a model to chat with, by path, gallery name or hub id."""
    return Run(str(name))
