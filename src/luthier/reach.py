"""How far a process may reach: which folders it opens, and what it reads of a model's folder.

The service gives its children the folders they may open (`LUTHIER_REACH`), since what a request names
leads on: an adapter names its base, a run its model.  Checked is what is opened, with every link
followed; at the command line nothing is out of reach.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from luthier.errors import ModelError, SettingsError

REACH = "LUTHIER_REACH"
_READ = (".json", ".jinja", ".safetensors", ".model", ".txt", ".tiktoken", ".v1", ".v3")


def limited_to(folders: Iterable[Path]) -> dict[str, str]:
    """The variable that gives a child its reach."""
    return {REACH: "\n".join(str(folder.resolve()) for folder in folders)}


def check_reach(path: Path) -> None:
    """Refuse what is outside of the folders that this process may open.

    Raises:
        SettingsError: It is; the path is shown as it was given.
    """
    given = os.environ.get(REACH)
    if given is None:
        return
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in given.split("\n") if root):
        raise SettingsError(
            f"{str(path)[:200]} is outside the folders of this server",
            why="a model, an adapter's base and data are opened only below its own data folder and "
            "those that were allowed at its start",
            fix="luthier serve --allow-folder FOLDER",
        )


def check_model_folder(folder: Path) -> None:
    """Refuse a model's folder whose files are not plain files of its own.

    A link may stay in the folder, or lead to the blobs beside a snapshot of the hub's cache.

    Raises:
        ModelError: A file is a link out of the folder, or a pipe, a socket or a device.
    """
    home = folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parents[1] / "blobs")
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_READ):
            continue
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(place) for place in allowed):
            raise ModelError(
                f"{path} is a link to {target}",
                why="files of a model stay inside its folder",
                fix="copy the file into the folder",
            )
        if (
            path.exists()
            and not stat.S_ISREG(kind := path.stat().st_mode)
            and not stat.S_ISDIR(kind)
        ):
            raise ModelError(
                f"{path} is no plain file",
                why="a pipe, a socket or a device can keep its reader waiting for ever",
                fix="copy the model's own file there",
            )
