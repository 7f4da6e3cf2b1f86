"""The measurements: what each case of the benchmarks runs in a process of its own."""
