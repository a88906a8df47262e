"""The order in which a layer's features can go (Equations 2 and 3, and other criteria)."""
