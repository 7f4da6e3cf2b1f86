"""The log in memory, for tests, simulation and runs that need not survive."""
