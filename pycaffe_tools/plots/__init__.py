"""The paper's figures, and a picture of each step."""
