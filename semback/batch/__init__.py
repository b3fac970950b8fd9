"""Many notebooks: which jobs there are, what they would cost, and running them with papermill."""

from .jobs import Job, check, grid
from .plan import plan
from .runner import Outcome, complete, run

__all__ = ["Job", "Outcome", "check", "complete", "grid", "plan", "run"]
