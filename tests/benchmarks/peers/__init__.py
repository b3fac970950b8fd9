"""The work W by semback and by other libraries, each in its own idiom; `beside` runs them."""
