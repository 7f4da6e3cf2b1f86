"""The seeded simulator: the real core and the real partition in virtual time, with faults that are drawn and laws that hold."""
