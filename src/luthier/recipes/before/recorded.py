"""How the rows of a training became text, kept beside its result: written once, read by all."""

from datetime import datetime
from pathlib import Path

from luthier.bounded import decode
from luthier.config.settings import Settings
from luthier.data.rendering.template import TemplateText
from luthier.errors import TemplateError
from luthier.sources.source import ModelSource


def rendering(
    settings: Settings, template: TemplateText | None, now: datetime
) -> dict[str, object]:
    """What `rendering.json` of a result says, so that chat, evaluation and export render alike."""
    return {
        "apply_chat_template": settings.apply_chat_template,
        "chat_template": template.source if template else None,
        "chat_template_kwargs": template.kwargs if template else {},
        "system_prompt": settings.system_prompt,
        "objective": settings.objective,
        "now": now.isoformat(),
    }


def recorded_rendering(source: ModelSource) -> dict[str, object]:
    """The same, read back; empty if nothing is known."""
    for folder in (source.adapter, source.base):
        path = folder / "rendering.json" if folder else None
        if path and path.is_file():
            return _read(path)
    return {}


_FIELDS = {
    "chat_template": str, "chat_template_kwargs": dict, "system_prompt": str, "now": str,
    "apply_chat_template": bool, "objective": str,
}  # fmt: skip


def _read(path: Path) -> dict[str, object]:
    try:
        body = decode(path.read_text("utf-8"))
        if not isinstance(body, dict):
            raise ValueError("it is no JSON object")
        for name, kind in _FIELDS.items():
            if not isinstance(body.get(name), kind | None):
                raise ValueError(f"{name} is {str(body[name])[:60]!r}")
        if body.get("now"):
            datetime.fromisoformat(body["now"])
    except (ValueError, RecursionError) as error:
        raise TemplateError(
            f"{path} cannot be used: {error}",
            why="it says how rows became text in the training of this result",
            fix="restore it as the run wrote it, or remove it: the model's own template is used then",
        ) from error
    return body
