"""A run is a directory: where it may be, who works in it, what it says, what state it is in."""

from luthier.runs.directory import RunDirectory, list_runs
from luthier.runs.log import EventLog
from luthier.runs.place import CHAT, device_lease, home, lease_file, mend_home
from luthier.runs.status import Status

__all__ = [
    "CHAT",
    "EventLog",
    "RunDirectory",
    "Status",
    "device_lease",
    "home",
    "lease_file",
    "list_runs",
    "mend_home",
]
