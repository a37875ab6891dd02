"""Simulation: the golden model, the simulated board, the test runners."""
