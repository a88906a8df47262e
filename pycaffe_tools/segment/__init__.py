"""Segmentation of whole stacks: planned, in tiles, resumable."""
