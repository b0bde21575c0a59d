"""Real services on a broker in memory, in virtual time, with faults that follow from a seed."""

from flywheel.testkit.simulation.broker import Broker, Weather
from flywheel.testkit.simulation.loop import Process, SimulationLoop, Stuck

__all__ = ["Broker", "Process", "SimulationLoop", "Stuck", "Weather"]
