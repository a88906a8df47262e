"""A segmentation as jobs of a cluster: planned once, run in parts, merged, and looked at from its files alone."""
