"""Models behind OpenAI-compatible endpoints: recorded, limited, counted."""

from .budget import Budget
from .chat import LLM, default_params
from .simulated import model

__all__ = ["LLM", "Budget", "default_params", "model"]
