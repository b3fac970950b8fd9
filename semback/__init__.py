"""Semantic backpropagation on language-model systems: graphs, gradients in words, descent, and exact reruns."""

from . import errors, show, tasks  # noqa: F401 - show gives the classes their looks
from .ablations import ablation
from .budget import Budget
from .cache import ResponseCache
from .descend import descend, evaluate
from .errors import BudgetExceeded, CacheMiss, DataError, GraphError, ModelError, ParameterError, SembackError
from .graph import Graph, Node
from .home import home
from .language import Language
from .llm import LLM, Reply
from .propagate import Gradients, Trace, backward, forward
from .run import Run, Scores
from .simulate import model
from .tasks import Example, Task

__version__ = "0.1.0"
__all__ = [
    "Budget", "BudgetExceeded", "CacheMiss", "DataError", "Example", "Gradients", "Graph", "GraphError", "LLM", "Language", "ModelError",
    "Node", "ParameterError", "Reply", "ResponseCache", "Run", "Scores", "SembackError", "Task", "Trace", "ablation", "backward", "descend",
    "errors", "evaluate", "forward", "home", "model", "results", "tasks",
]


def __getattr__(name):
    """Modules that are imported when they are first used."""
    if name in ("batch", "clerk", "comparisons", "credit", "figures", "growth", "jobs", "plan", "report", "results"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
