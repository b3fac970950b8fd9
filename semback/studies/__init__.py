"""Studies of the method itself: whom gradients reach, and what a graph costs."""
