"""The fast way to read and to step on a CPU: native kernels around the CPU's matrix library."""
