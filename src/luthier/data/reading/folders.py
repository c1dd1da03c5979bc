"""Which files of a folder are learned from: one rule for folders here and data sets of the hub.

Files that describe rows are no rows; files named for training are learned where there are any, else
all but those named for measuring.  What is not learned is named.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luthier.errors import FileAccessError

_DESCRIBES = re.compile(
    r"(?i)(dataset_infos?|dataset_dict|state|croissant|datapackage|schema|data_?card|datasheet"
    r"|package(-lock)?|config|metadata|manifest|index|stats|statistics)\.json"
    r"|(readme|license|licence|notice|citation|changelog|changes|authors|contributors|contributing"
    r"|requirements|sources?|attribution|credits|sha256sums?|md5sums?|checksums?|copying|robots)"
    r"(\.[a-z]{2})?\.(txt|json|csv)"
)
_TRAIN = frozenset({"train", "training", "trn"})
_HELD_OUT = frozenset(
    {
        "test",
        "tests",
        "testing",
        "valid",
        "validation",
        "val",
        "eval",
        "evaluation",
        "dev",
        "heldout",
    }
)


@dataclass(frozen=True)
class Chosen:
    """Files of one folder: those to learn, those to measure with, and those left aside with why."""

    learned: list[Path]
    held_out: list[Path] = field(default_factory=list)
    aside: dict[Path, str] = field(default_factory=dict)

    def notices(self, name: str) -> list[str]:
        """What is said of the files not learned."""
        made = []
        if self.held_out:
            files = " ".join(str(path) for path in self.held_out[:5])
            made.append(
                f"{name}: not learned, by their names for measuring: {_listed(self.held_out)}; "
                f"to measure with them: --eval-dataset {files}"
            )
        for why in dict.fromkeys(self.aside.values()):
            made.append(f"{name}: {why}: {_listed([p for p, w in self.aside.items() if w == why])}")
        return made


def describes_rows(path: Path) -> bool:
    """Whether a file describes data instead of holding it, by its name."""
    return _DESCRIBES.fullmatch(path.name) is not None


def choose(name: str, folder: Path, files: Sequence[Path]) -> Chosen:
    """The files of a folder to learn from.

    Raises:
        FileAccessError: Every file is held out by its name, or describes rows.
    """
    aside = {path: "not read, it describes rows" for path in files if describes_rows(path)}
    rows = [path for path in files if path not in aside]
    if not rows:
        raise FileAccessError(
            f"{name} has no data files, only some that describe data: {_listed(list(aside))}",
            why="files of that name are no rows",
            fix="name the file itself as the data set",
        )
    held_out = [path for path in rows if _words(path, folder) & _HELD_OUT]
    train = [p for p in rows if _words(p, folder) & _TRAIN and not _words(p, folder) & _HELD_OUT]
    measuring = frozenset(held_out)
    learned = train or [path for path in rows if path not in measuring]
    if not learned:
        raise FileAccessError(
            f"{name} has only held-out files: {', '.join(file.name for file in held_out[:5])}",
            why="files named test, validation, eval or dev are not trained on unless named themselves",
            fix=f"--dataset {held_out[0]}",
        )
    chosen = frozenset(learned) | measuring
    aside |= {
        path: "not learned, because others are named train" for path in rows if path not in chosen
    }
    return Chosen(learned, held_out, aside)


def _words(path: Path, folder: Path) -> set[str]:
    return set(re.findall("[a-z]+", str(path.relative_to(folder)).lower()))


def _listed(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
