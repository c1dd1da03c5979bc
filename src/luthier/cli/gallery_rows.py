"""The rows of `luthier gallery list`: the gallery, what is at hand, and what fits a machine."""

import difflib
from dataclasses import dataclass
from typing import Any

from luthier.errors import UsageError
from luthier.gallery import GalleryModel, all_families, all_models, find_model
from luthier.planner.device import Device, this_machine
from luthier.planner.marks import METHODS, fit_marks
from luthier.sources.local import LocalModel, local_models
from luthier.units import format_count


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list; None and False leave everything in.

    Raises:
        UsageError: A family, a method or a number that is none.
    """

    family: str | None = None
    language: str | None = None
    max_params: str | None = None
    licence: str | None = None
    fits: str | None = None
    tested: bool = False
    local: bool = False
    search: str | None = None

    def __post_init__(self) -> None:
        if self.family is not None:
            _one_of(self.family, [family.name for family in all_families()], "--family", "family")
        if self.fits is not None:
            _one_of(self.fits, list(METHODS), "--fits", "method")
        parameters_of(self.max_params)

    def takes(self, row: dict[str, Any]) -> bool:
        """Whether a row is wanted."""
        most = parameters_of(self.max_params)
        names = f"{row['model']} {row['hub']} {row['title']}".lower()
        mark = row["marks"].get((self.fits or "").lower(), {}).get("mark", "no")
        return all(
            (
                self.family is None or row["family"] == self.family.lower(),
                self.language is None or self.language.lower() in row["languages"],
                most is None or (row["parameters"] or most + 1) <= most,
                self.licence is None or self.licence.lower() in (row["licence"] or "").lower(),
                self.fits is None or mark != "no",
                not self.tested or row["tested"] not in ("no", None),
                not self.local or row["local"],
                self.search is None or self.search.lower() in names,
            )
        )


def rows(wanted: Filter, device: str | None = None) -> tuple[str, list[dict[str, Any]]]:
    """The name of the machine that the marks are for, and a row for each model wanted.

    Args:
        device: As `--device`; None means this machine.
    """
    machine = this_machine() if device is None else Device.parse(device)
    at_hand = [model for model in local_models() if model.there]
    held = {model.name.lower() for model in at_hand} | {
        model.hub.lower() for model in at_hand if model.hub
    }
    found = [_row(model, machine, held) for model in all_models()]
    found += [
        _added(model)
        for model in at_hand
        if find_model(model.name) is None and (model.hub is None or find_model(model.hub) is None)
    ]
    found.sort(key=lambda row: not row["local"])  # what is at hand first, else as in the catalogue
    return machine.name, [row for row in found if wanted.takes(row)]


def short(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that fit a terminal."""
    marks = {method: row["marks"].get(method, {}).get("mark", "-") for method in METHODS}
    gate = " (gated)" if row["gated"] else ""
    size = row["parameters"]
    return {
        "model": row["model"],
        "family": row["family"],
        "parameters": None if size is None else format_count(size),
        "context": row["context"],
        "licence": None if row["licence"] is None else row["licence"] + gate,
        **marks,
        "local": row["local"],
    }


def parameters_of(text: str | None) -> int | None:
    """`8B`, `600M` or a plain number, as a number.

    Raises:
        UsageError: It is none of these.
    """
    if text is None:
        return None
    plain = text.strip().lower()
    size = {"k": 1e3, "m": 1e6, "b": 1e9}.get(plain[-1:], 1.0)
    try:
        number = float(plain[:-1] if size > 1 else plain) * size
    except ValueError:
        number = 0.0
    if not 0 < number < 1e18:
        raise UsageError(
            f"--max-params {text[:40]!r} is no number of parameters",
            why="a number, or one with k, M or B",
            fix="--max-params 8B",
        )
    return int(number)


def _row(model: GalleryModel, machine: Device, held: set[str]) -> dict[str, Any]:
    marks = fit_marks(model.architecture, machine) if model.trains and model.architecture else {}
    return {
        "model": model.name,
        "title": model.title,
        "family": model.family,
        "hub": model.hub,
        "modelscope": model.modelscope,
        "parameters": model.parameters,
        "context": model.context,
        "languages": list(model.languages),
        "licence": model.licence,
        "gated": model.gated,
        "template": model.template,
        "tested": model.tested,
        "trains": model.trains,
        "local": model.hub is None or model.name in held or model.hub.lower() in held,
        "marks": {
            method: {"mark": mark.mark, "peak_bytes": mark.peak_bytes}
            for method, mark in marks.items()
        },
    }


def _added(model: LocalModel) -> dict[str, Any]:
    nothing = dict.fromkeys(("modelscope", "parameters", "context", "licence", "gated"))
    return {
        "model": model.name,
        "title": str(model.path),
        "family": model.kind,
        "hub": model.hub,
        **nothing,
        "languages": [],
        "template": None,
        "tested": None,
        "trains": True,
        "local": True,
        "marks": {},
    }


def _one_of(given: str, known: list[str], flag: str, kind: str) -> None:
    if given.lower() not in known:
        near = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.4) or known[:1]
        raise UsageError(
            f"there is no {kind} {given[:40]!r}",
            why=f"known: {', '.join(known)}",
            fix=f"{flag} {near[0]}",
        )
