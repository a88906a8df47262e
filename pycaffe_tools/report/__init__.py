"""The report of a reproduction, from its logs alone."""
