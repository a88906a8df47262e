"""Damaged inputs and kills against every command: ``make fuzz``, and a short, seeded part of it among the tests."""
