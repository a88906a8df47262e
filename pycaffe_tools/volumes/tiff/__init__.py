"""TIFF stacks: read page by page, written slice by slice."""
