"""How every model is trained: one loop, its batches, and several processes at once."""
