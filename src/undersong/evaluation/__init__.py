"""How good the answers are (section 3): protocols, slices, intervals -> Evaluation."""
