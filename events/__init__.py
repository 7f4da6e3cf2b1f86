"""What happened, and what follows from it: pure data and decisions."""
