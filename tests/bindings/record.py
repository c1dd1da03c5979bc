"""Write down, for one version of a package, the signatures of what luthier calls in it.

    python -m tests.bindings.record torch-2.11.0-cp312-cp312-macosx_11_0_arm64.whl ...

A wheel of any system will do: the Python in it is the same.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bindings.calls import written_calls
from tests.bindings.signatures import Package

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src" / "luthier"


def record(
    package: Package, library: str, known: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Name -> signatures; None where the package does not say.

    Args:
        known: What was read of the same version before: a release does not change.
    """
    known = known or {}
    names = {call.name for call in written_calls(SOURCE) if call.name.startswith(library + ".")}
    return {name: known.get(name) or package.signatures(name) for name in sorted(names)}


def main() -> None:
    for place in map(Path, sys.argv[1:]):
        library, version = place.name.split("-")[:2]
        saved = HERE / "records" / f"{library}-{version}.json"
        known = json.loads(saved.read_text("utf-8")) if saved.exists() else {}
        body = json.dumps(record(Package(place), library, known), sort_keys=True)
        saved.write_text(body.replace("]}], ", "]}],\n") + "\n")


if __name__ == "__main__":
    main()
