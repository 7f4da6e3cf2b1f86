"""Who is restarted when a process ends, and when a fault is escalated: OTP's rules as pure decisions."""
