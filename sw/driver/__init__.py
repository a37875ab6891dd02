"""The driver: devices over byte transports. Imports NumPy, pyserial and the standard library."""
