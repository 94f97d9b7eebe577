"""The optional GNN behind any embedding (section 3.2)."""
