"""What a pruning is to reach, and where it stops for that: targets, budgets, and walks along an order."""
