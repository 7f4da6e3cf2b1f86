"""ensue.testing: the same engine in one process, without Ray, with a clock that the test turns; and the simulator."""

from .actors.local import LocalEngine, ManualClock
from .actors.simulation.faults import Faults
from .actors.simulation.laws.catalog import LAWS, Law
from .actors.simulation.simulate import SimulationFailed, SimulationReport, simulate

__all__ = [
    "LAWS",
    "Faults",
    "Law",
    "LocalEngine",
    "ManualClock",
    "SimulationFailed",
    "SimulationReport",
    "simulate",
]
