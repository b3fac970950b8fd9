"""How fast semback is, beside what bounds it: `make bench`. Programs, not tests."""
