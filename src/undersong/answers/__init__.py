"""What a model answers, and what its answers are made from."""
