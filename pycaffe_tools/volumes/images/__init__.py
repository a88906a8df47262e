"""Folders of images, one file a slice."""
