"""The paper measured: tables 1 and 2, figures 1 and 4, its claims, and ablations (section 3)."""
