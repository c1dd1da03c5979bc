"""The parts that a release is made of, as CycloneDX 1.6: `python docs/sbom.py dist/luthier.cdx.json`.

What is listed: every package that luthier and its extras for users need, as installed here, with what
those need in turn; and the scripts that are copied into the package, with their sums.  Run it in the
environment that `constraints.txt` pins.
"""

import argparse
import json
import re
import uuid
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "src" / "luthier" / "web" / "vendor"
EXTRAS = ("gpu", "parquet", "hub", "serve", "trackers")


def normal(name: str) -> str:
    """A package's name as package URLs have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed() -> dict[str, tuple[Distribution, set[str]]]:
    """Every package below luthier that is installed, with the names of those it needs itself."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    waiting = [("luthier", frozenset(EXTRAS))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            here = distribution(name)
        except PackageNotFoundError:  # of an extra that is not installed here
            continue
        below = found.setdefault(name, (here, set()))[1]
        for text in here.requires or ():
            wanted = Requirement(text)
            marks = [{"extra": extra} for extra in (*extras, "")]
            if wanted.marker is None or any(wanted.marker.evaluate(mark) for mark in marks):
                below.add(normal(wanted.name))
                waiting.append((normal(wanted.name), frozenset(wanted.extras)))
    return found


def licences(of: Distribution) -> list[dict[str, Any]]:
    """What a package says of its licence: an expression, or the names of its classifiers."""
    if expression := of.metadata.get("License-Expression"):
        return [{"expression": expression}]
    names = [
        line.rpartition(" :: ")[2]
        for line in of.metadata.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    said = (of.metadata.get("License") or "").strip().splitlines()
    names = names or [line[:80] for line in said[:1] if line]
    return [{"license": {"name": name}} for name in names]


def component(name: str, of: Distribution) -> dict[str, Any]:
    """One package."""
    url = f"pkg:pypi/{name}@{of.version}"
    body = {"type": "library", "bom-ref": url, "name": name, "version": of.version, "purl": url}
    found = licences(of)
    return {**body, "licenses": found} if found else body


def vendored() -> list[dict[str, Any]]:
    """Scripts of the page that others published."""
    entries = json.loads((VENDOR / "hashes.json").read_text("utf-8"))
    return [
        {
            "type": "file",
            "bom-ref": f"vendor/{entry['file']}",
            "name": f"{entry['package']}/{entry['published_as']}",
            "version": entry["version"],
            "purl": f"pkg:npm/{entry['package']}@{entry['version']}",
            "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
            "licenses": [{"license": {"id": entry["licence"]}}],
        }
        for entry in entries
    ]


def bom() -> dict[str, Any]:
    """The whole document."""
    packages = needed()
    top, scripts = component("luthier", packages.pop("luthier")[0]), vendored()
    urls = {name: component(name, of)["bom-ref"] for name, (of, _) in packages.items()}
    direct = {normal(Requirement(text).name) for text in distribution("luthier").requires or ()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {**top, "type": "application"},
        },
        "components": [component(name, of) for name, (of, _) in sorted(packages.items())] + scripts,
        "dependencies": [
            {
                "ref": top["bom-ref"],
                "dependsOn": sorted(urls[name] for name in direct & set(urls))
                + [script["bom-ref"] for script in scripts],
            },
            *(
                {"ref": urls[name], "dependsOn": sorted(urls[one] for one in below & set(urls))}
                for name, (_, below) in sorted(packages.items())
            ),
        ],
    }


def main() -> None:
    """Write it where it is asked for."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("target", type=Path)
    target: Path = asked.parse_args().target
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bom(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
