"""Semantic backpropagation on language-model systems: graphs, gradients in words, and descent.

Every model reply is recorded, so a rerun is exact and free.
"""

import importlib
from typing import TYPE_CHECKING

from . import errors
from .cache import ResponseCache
from .control import Control, control
from .descend import descend
from .errors import (
    BudgetExceeded,
    CacheError,
    CacheMiss,
    DataError,
    GraphError,
    ModelError,
    ParameterError,
    PromptTooLong,
    SembackError,
)
from .evaluate import evaluate
from .graph import Graph, Node
from .language import Language
from .llm import LLM, Budget, model, models
from .paths import home
from .propagate import Gradients, Trace, backward, forward
from .replies import Reply
from .report import show as _show  # noqa: F401 - sets how the classes above are shown
from .run import Questions, Run, Scores, Step
from .task import Example, Task
from .variants import variant_settings

if TYPE_CHECKING:
    from . import baselines, batch, tasks
    from .report import comparisons, figures, page, results, summary
    from .studies import clerk, credit, gates, worth

__version__ = "0.1.0"

# Modules that are imported at their first use, since pandas and matplotlib are slow
_LAZY = {"batch": "batch", "baselines": "baselines", "tasks": "tasks"}
_LAZY |= {
    name: f"report.{name}" for name in ("comparisons", "figures", "page", "results", "summary")
}
_LAZY |= {name: f"studies.{name}" for name in ("clerk", "credit", "gates", "worth")}

__all__ = ["LLM", "Budget", "BudgetExceeded", "CacheError", "CacheMiss", "Control", "DataError"]
__all__ += ["Example", "Gradients", "Graph", "GraphError", "Language", "ModelError", "Node"]
__all__ += ["ParameterError", "PromptTooLong", "Questions", "Reply", "ResponseCache", "Run"]
__all__ += ["Scores", "SembackError", "Step", "Task", "Trace", "backward", "baselines", "batch"]
__all__ += ["clerk", "comparisons"]
__all__ += ["control", "credit", "descend", "errors", "evaluate", "figures", "forward", "gates"]
__all__ += ["home", "model", "models", "page", "results", "summary", "tasks"]
__all__ += ["variant_settings", "worth"]


def __getattr__(name: str):
    if name in _LAZY:
        return importlib.import_module(f".{_LAZY[name]}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
