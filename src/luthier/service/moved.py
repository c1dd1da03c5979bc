"""A data folder that was moved: what the database says about places follows it."""

from pathlib import Path

from luthier.bounded import decode_ours
from luthier.service.store import Store, to_json

_PLACES = ("resolved", "given")
"""Columns with settings, in which files of the data folder are named by their whole path."""


def follow_move(store: Store, home: Path) -> int:
    """Let rows of jobs point into `home` where the folder they point into is gone.

    A folder that is still there was copied, not moved: its jobs stay where they are.

    Returns:
        How many jobs were changed.
    """
    changed = 0
    with store.write() as connection:
        rows = connection.execute("SELECT id, run_path, resolved, given FROM jobs").fetchall()
        for row in rows:
            run = Path(row["run_path"])
            old = run.parents[1]
            if old == home or run.parent.name != "runs" or old.exists():
                continue
            values = {name: to_json(_moved(decode_ours(row[name]), old, home)) for name in _PLACES}
            connection.execute(
                "UPDATE jobs SET run_path = ?, resolved = ?, given = ? WHERE id = ?",
                (str(home / "runs" / run.name), values["resolved"], values["given"], row["id"]),
            )
            changed += 1
    return changed


def _moved(value: object, old: Path, home: Path) -> object:
    if isinstance(value, str):
        inside = value.startswith(f"{old}/")
        return str(home / value[len(str(old)) + 1 :]) if inside else value
    if isinstance(value, dict):
        return {key: _moved(item, old, home) for key, item in value.items()}
    return [_moved(item, old, home) for item in value] if isinstance(value, list) else value
