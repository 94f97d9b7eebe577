"""New artists and tracks in a trained run, without training (beyond the paper)."""
