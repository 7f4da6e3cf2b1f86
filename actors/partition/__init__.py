"""The loop that owns a share of the runs: collect, decide, commit, carry out."""
