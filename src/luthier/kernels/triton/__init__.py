"""Forms of the pointwise kernels for CUDA, one kernel each way; their plain twins stand beside this folder."""
