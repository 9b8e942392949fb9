"""Fleets come alive: a virtual clock, a time model of devices, rehearsed faults, and the engine that runs them."""
