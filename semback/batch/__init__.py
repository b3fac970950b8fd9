"""Batches of notebooks: which jobs there are, what they may cost, and their execution."""

from .estimate import plan
from .jobs import Job, check, grid, study
from .runner import Outcome, complete, run

__all__ = ["Job", "Outcome", "check", "complete", "grid", "plan", "run", "study"]
