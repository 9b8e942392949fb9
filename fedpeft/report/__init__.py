"""What a run came to: plain summaries read from its journal, and a one-file HTML report that works offline.

`fedpeft.report.summary` holds the data classes that the screen, `--format json` and the report share;
`fedpeft.report.page` writes the report. Nothing here loads torch.
"""

from fedpeft.report.page import write_report
from fedpeft.report.summary import DevicePlan, Progress, Refusal, RunPlan, RunResult, summarise

__all__ = ["DevicePlan", "Progress", "Refusal", "RunPlan", "RunResult", "summarise", "write_report"]
