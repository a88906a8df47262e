"""Slices segmented while the microscope writes them."""
