"""The trained encoders, opened without training and, as ONNX, without torch (sections 2.1, 2.3)."""
