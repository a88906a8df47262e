"""Pruning to a network of Table 1, or to a budget."""
