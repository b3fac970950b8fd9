"""The work W by other libraries, each in its own idiom: programs for an interpreter of their own, which knows nothing of semback."""
