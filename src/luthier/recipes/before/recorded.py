"""How the rows of a training became text, kept beside its result: written once, read by all."""

import json
from datetime import datetime
from typing import Any

from luthier.config.settings import Settings
from luthier.data.rendering.template import ChatTemplate
from luthier.sources.source import ModelSource


def rendering(settings: Settings, template: ChatTemplate | None, now: datetime) -> dict[str, Any]:
    """What `rendering.json` of a result says, so that chat, evaluation and export render alike."""
    return {
        "apply_chat_template": settings.apply_chat_template,
        "chat_template": template.source if template else None,
        "chat_template_kwargs": template.kwargs if template else {},
        "system_prompt": settings.system_prompt,
        "objective": settings.objective,
        "now": now.isoformat(),
    }


def recorded_rendering(source: ModelSource) -> dict[str, Any]:
    """The same, read back; empty if nothing is known."""
    for folder in (source.adapter, source.base):
        path = folder / "rendering.json" if folder else None
        if path and path.is_file():
            body: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return body
    return {}
