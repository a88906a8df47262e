"""Public data sets, and a synthetic one."""
