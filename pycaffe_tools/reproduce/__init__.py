"""The reproduction: what has to be run, the store of runs, the runner."""
