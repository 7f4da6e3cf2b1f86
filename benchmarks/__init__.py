"""The benchmarks: every figure that ensue claims, measured in one run with `python -m benchmarks` or `make bench`."""
