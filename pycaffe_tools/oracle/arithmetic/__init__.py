"""What follows a pruned layer, computed in numpy for many candidates at once."""
