"""What features cost: parameters, arithmetic, time of the dense net."""
