"""Every call into torch, transformers and bitsandbytes binds in every version that is supported."""

import json
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.bindings.calls import Written, written_calls
from tests.bindings.record import SOURCE, record
from tests.bindings.signatures import Package

RECORDS = sorted((Path(__file__).parent / "records").glob("*.json"))
CALLS = written_calls(SOURCE)

IN_C = {"torch.cuda.mem_get_info", "torch.Size"}
"""Called, but the package does not describe their arguments."""


def binds(call: Written, signature: dict[str, Any]) -> bool:
    """Whether the arguments of a call have a place each, and none that is needed is left out."""
    places, keywords = signature["positional"], dict(signature["keywords"])
    given = call.positional
    if given is not None and given > len(places) and not signature["more"]:
        return False
    by_place = set(places[: given if given is not None else 0])
    unknown = [n for n in call.names if n not in keywords and n not in places]
    if (unknown and not signature["any"]) or by_place & set(call.names):
        return False
    if call.open or given is None:
        return True
    lacking = [n for n in places[given : signature["needed"]] if n not in call.names]
    return not lacking and all(n in call.names for n, needed in keywords.items() if needed)


def test_every_supported_version_has_a_record():
    names = {path.stem for path in RECORDS}
    assert {"torch-2.11.0", "transformers-5.17.0", "transformers-5.23.0", "torch-2.13.0"} <= names
    for library in ("torch", "transformers", "bitsandbytes"):
        assert len([name for name in names if name.startswith(library)]) >= 2
    assert len(CALLS) > 200


@pytest.mark.parametrize("path", RECORDS, ids=[path.stem for path in RECORDS])
def test_every_call_binds(path: Path):
    signatures = json.loads(path.read_text("utf-8"))
    library = path.stem.rpartition("-")[0]
    calls = [call for call in CALLS if call.name.startswith(library + ".")]
    unknown = {c.name for c in calls if signatures.get(c.name) is None}
    assert not unknown - IN_C, f"python -m tests.bindings.record WHEEL: {sorted(unknown - IN_C)}"
    wrong = [
        f"{call.where}: {call.name}"
        for call in calls
        if call.name not in IN_C
        and signatures.get(call.name) is not None
        and not any(binds(call, one) for one in signatures[call.name])
    ]
    assert wrong == []


def test_a_call_with_an_argument_that_came_later_is_found():
    """As the attention that once asked torch 2.11 for grouped heads by name."""
    call = Written("torch.ops.aten._flash_attention_forward", 10, ("enable_gqa",), False, "here")
    signatures = json.loads((RECORDS[0].parent / "torch-2.11.0.json").read_text("utf-8"))
    assert not any(binds(call, one) for one in signatures[call.name])


@pytest.mark.parametrize("library", ["transformers", "bitsandbytes"])
def test_a_record_is_what_the_installed_package_says(library: str):
    path = RECORDS[0].parent / f"{library}-{version(library)}.json"
    if not path.exists():
        pytest.skip(f"no record of {path.stem}")
    package = Package(Path(sysconfig.get_paths()["purelib"]))
    names = {name: found for name, found in record(package, library).items() if found}
    saved = json.loads(path.read_text("utf-8"))
    assert {name: saved[name] for name in names} == names
