"""Public randomness: streams that every machine derives alike from the run's seed."""

from fedpeft.randomness.streams import Stream, derive, derive_seed

__all__ = ["Stream", "derive", "derive_seed"]
