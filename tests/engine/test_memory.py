"""Memory that ran out, in every word that is used for it."""

import pytest
import torch

from luthier.engine.memory import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        torch.AcceleratorError("CUDA error: out of memory"),
        torch.distributed.DistBackendError(
            "NCCL error, unhandled cuda error. Last error: Cuda failure 2 'out of memory'"
        ),
    ],
    ids=str,
)
def test_memory_that_ran_out_is_recognised_wherever_it_is_said(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("out of memory"),
        KeyError("memory"),
    ],
    ids=str,
)
def test_another_failure_is_not_taken_for_it(error):
    assert not is_out_of_memory(error)
