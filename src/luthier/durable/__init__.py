"""Writing so that a kill, a full disk or a power cut leaves the old file or the new one, never half.

Every file of value goes through here: write beside the final name, sync, rename, sync the parent.
A folder gets a `manifest.json` (size and SHA-256 of every file, and of the manifest itself) as its
last file; a folder without a valid one does not exist.  What a killed process left behind has a
name that only this package makes, and `clean_stale` removes it at the next start.
"""

from luthier.durable.files import (
    AppendFile,
    GrowingFile,
    append_line,
    clean_stale,
    keep_private,
    make_folders,
    remove_folder,
    write_atomic,
    write_stream,
)
from luthier.durable.folder import (
    FORMAT,
    MANIFEST,
    DurableFolder,
    NewerFormatError,
    hash_file,
    looks_complete,
    publish_folder,
    read_manifest,
    verify_folder,
)
from luthier.durable.system import FileSystem, explain, free_bytes, require_space, using

__all__ = [
    "FORMAT",
    "MANIFEST",
    "AppendFile",
    "DurableFolder",
    "FileSystem",
    "GrowingFile",
    "NewerFormatError",
    "append_line",
    "clean_stale",
    "explain",
    "free_bytes",
    "hash_file",
    "keep_private",
    "looks_complete",
    "make_folders",
    "publish_folder",
    "read_manifest",
    "remove_folder",
    "require_space",
    "using",
    "verify_folder",
    "write_atomic",
    "write_stream",
]
