"""Going on with a run by its name alone: its own settings are those that nobody gives again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from luthier.config.names import ALIASES
from luthier.config.read import Resolved, load, load_saved


def load_or_continue(config: Path | None, flags: Mapping[str, object]) -> Resolved:
    """Settings of a command line; `--resume --output_dir RUN` without a model takes the run's own.

    What was chosen when the run began is not among them: the run keeps that itself.

    Raises:
        ConfigFileError: And SettingsError, as `read.load`.
    """
    said = {ALIASES.get(name, name): value for name, value in flags.items()}
    own = Path(str(said.get("output_dir", ""))).expanduser() / "settings.json"
    resumes = str(said.get("resume", "false")).lower() == "true"
    if config is not None or "model" in said or not resumes or not own.is_file():
        return load(config, flags)
    saved = load_saved(own)
    values = saved.settings.model_dump(mode="json")
    resolved = load({name: value for name, value in values.items() if saved.is_given(name)}, flags)
    provenance = {
        name: saved.provenance[name] if source == f"argument {name}" else source
        for name, source in resolved.provenance.items()
    }
    return dataclasses.replace(resolved, provenance=provenance)
