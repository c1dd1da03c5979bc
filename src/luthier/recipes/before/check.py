"""The data doctor with the tokenizer and template of a run: `luthier data check`."""

from luthier.config.read import Resolved
from luthier.data.doctor import Report, check, head_samples, objective_of
from luthier.data.doctor.stream import Progress
from luthier.recipes.before.opening import open_run
from luthier.sources.source import ModelSource, resolve_source


def check_data(resolved: Resolved, *, progress: Progress | None = None) -> Report:
    """Look at every row of `dataset` as a run with these settings would get it.

    Without an objective that somebody gave, it is the one that most of the first rows are for.
    Nothing is loaded of the model but its config, tokenizer and template.

    Raises:
        LuthierError: The model or a file cannot be found; what is wrong inside a file is a finding.
    """
    settings = resolved.settings
    source = resolve_source(settings.model, revision=settings.revision)
    columns, encoding = settings.columns, settings.encoding
    if resolved.provenance.get("objective", "default") == "default":
        first = head_samples(settings.dataset, columns=columns, encoding=encoding)
        settings = settings.model_copy(update={"objective": objective_of(first)})
    opening = open_run(
        settings,
        source,
        first=lambda: head_samples(settings.dataset, columns=columns, encoding=encoding, most=None),
    )
    opening.renderer.notices[:0] = opening.notices
    return check(
        settings.dataset,
        renderer=opening.renderer,
        objective=settings.objective,
        columns=columns,
        encoding=encoding,
        held_out=settings.eval_dataset or (),
        context=opening.context,
        hidden_size=_hidden_size(source),
        model=settings.model,
        progress=progress,
    )


def _hidden_size(source: ModelSource) -> int | None:
    text = source.config.get("text_config", source.config)
    found = text.get("hidden_size", text.get("n_embd")) if isinstance(text, dict) else None
    return found if isinstance(found, int) and found > 0 else None
