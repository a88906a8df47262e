"""The order in which features can go: of one layer (equations 2 and 3, and other criteria), or of all layers together."""
