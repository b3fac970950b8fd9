"""Studies of the method itself: which nodes gradients reach, how often gates are wrong."""
