"""Other places for a run's figures: files for scripts and spreadsheets, TensorBoard, trackio; fed from the journal."""

from fedpeft.report.sinks.contract import Sink
from fedpeft.report.sinks.feeding import Feed, check_sinks, feeding

__all__ = ["Feed", "Sink", "check_sinks", "feeding"]
