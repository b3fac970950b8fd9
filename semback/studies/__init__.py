"""Studies of the method itself: which nodes gradients reach, and what a graph costs."""
