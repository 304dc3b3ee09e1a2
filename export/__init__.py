"""Export trained PyTorch modules to a bundle of ONNX graphs."""
