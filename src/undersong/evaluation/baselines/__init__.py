"""Methods to beat: by chance, from one source, from all without training, from a plain network."""
