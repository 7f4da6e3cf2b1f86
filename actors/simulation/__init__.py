"""The seeded simulator: the real decider and partition in virtual time, with drawn faults, checked against laws."""
