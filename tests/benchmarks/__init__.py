"""How fast semback is, beside what bounds it: `make bench`. Programs, not tests; see __main__.py for what is measured."""
