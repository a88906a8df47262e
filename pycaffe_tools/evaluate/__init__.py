"""Scores of probability maps against labels."""
