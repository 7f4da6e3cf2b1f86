"""Every figure that ensue claims, measured in one run: `python -m benchmarks`, or `make bench`."""
