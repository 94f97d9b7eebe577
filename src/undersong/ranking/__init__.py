"""The second stage: a small network reranks the candidates of the cosine (beyond the paper)."""
