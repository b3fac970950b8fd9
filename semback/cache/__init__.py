"""Recorded replies: one entry for each request, shared by processes, portable as text."""

from .responses import MODES, Loaded, ResponseCache

__all__ = ["MODES", "Loaded", "ResponseCache"]
