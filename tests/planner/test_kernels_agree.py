"""What the planner says again because it may not load a kernel is what the kernels say."""

from luthier.kernels import cpu, head_logprob
from luthier.planner import activations, device


def test_the_bytes_of_a_chunk_of_logits_are_those_of_the_kernel():
    assert activations.LOGITS_BYTES == {
        "cpu": head_logprob.LOGITS_BYTES,
        "cuda": head_logprob.LOGITS_BYTES_CUDA,
    }


def test_the_block_of_a_weight_that_is_cast_is_that_of_the_kernel():
    assert activations.CAST_BLOCK == head_logprob.BLOCK_BYTES


def test_plan_and_run_agree_whether_this_processor_multiplies_bfloat16():
    assert device._cpu_has_bf16() == cpu.bf16_matmul_is_fast()
