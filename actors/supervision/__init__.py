"""What runs in the supervisors' processes."""
