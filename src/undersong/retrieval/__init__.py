"""Retrieval: who may be an answer, in which order, how far apart, and found how fast."""
