"""What CUDA and its allocator read from the environment, once, when a process first asks for a GPU."""

import os
import sys

SURROUNDINGS = {
    # GPUs in the order of nvidia-smi, which plan and leases count by; CUDA's own begins with the fastest.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    # Every micro-batch has another size: blocks that grow do not leave holes behind.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
_OLDER = "PYTORCH_CUDA_ALLOC_CONF"
"""Earlier name of the second; who has set it has decided."""


def set_surroundings() -> None:
    """Set what nobody has set; at the start of a process, before torch looks for a device."""
    for name, value in SURROUNDINGS.items():
        allocator = name == "PYTORCH_ALLOC_CONF"
        if allocator and (_OLDER in os.environ or sys.platform != "linux"):
            continue
        os.environ.setdefault(name, value)
