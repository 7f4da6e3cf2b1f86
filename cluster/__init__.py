"""Where things live and what survives: the log, the Ray session, processes and the clock."""
