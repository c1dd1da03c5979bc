"""Files of a run that may be downloaded: those it names itself, never a path that was made up."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from luthier.service.http.page_schemas import RunFile
from luthier.service.records import Job

PLAIN = ("config.yaml", "settings.json", "plan.json", "data.json", "ledger.jsonl", "events.jsonl",
         "monitor.jsonl", "stderr.log")  # fmt: skip
FOLDERS = ("result", "checkpoints")
MAX_FILES = 2000
CHUNK_BYTES = 1 << 20


def job_files(job: Job) -> list[RunFile]:
    """Every file with its size; names are relative to the run directory."""
    root = job.run_path
    paths = [root / name for name in PLAIN]
    for folder in FOLDERS:
        if (root / folder).is_dir():
            paths += sorted(path for path in (root / folder).rglob("*") if path.is_file())
    found: list[RunFile] = []
    for path in paths[:MAX_FILES]:
        if path.is_file() and _inside(path, root):
            name = path.relative_to(root).as_posix()
            found.append({"path": name, "bytes": path.stat().st_size})
    if job.result is not None and job.result.is_dir():
        found.append({"path": "result.zip", "bytes": None})
    return found


def open_file(job: Job, name: str) -> Path | None:
    """The file of that name, if it is one of those listed."""
    listed = {one["path"] for one in job_files(job)}
    return job.run_path / name if name in listed else None


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() and path.resolve().is_relative_to(root.resolve())


class _Sink:
    """Takes what is written to it until it is asked for."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        """Keep it."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def take(self) -> bytes:
        """What has been written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zip_stream(folder: Path) -> Iterator[bytes]:
    """A folder as a zip file, piece by piece; weights do not compress, so nothing is."""
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or not _inside(path, folder):
                continue
            entry = zipfile.ZipInfo.from_file(path, path.relative_to(folder).as_posix())
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(CHUNK_BYTES):
                    target.write(piece)
                    yield sink.take()
    yield sink.take()
