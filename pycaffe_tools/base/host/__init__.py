"""The computer this runs on: its cores and memory, the kernels of its BLAS, its C++ compiler."""
