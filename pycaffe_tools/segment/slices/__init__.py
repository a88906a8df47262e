"""Slices on their way: cut into tiles, computed by a pool of workers, kept one by one."""
