"""The agent on a device: answers frames with frames, and keeps its versioned state on disk. Knows no Flower."""

from fedpeft.client.agent import Agent, Home
from fedpeft.client.memory import ClientMemory
from fedpeft.client.store import ClientStore

__all__ = ["Agent", "ClientMemory", "ClientStore", "Home"]
