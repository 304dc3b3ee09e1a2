"""ONNX Runtime's real CUDA provider on a GPU that computes nothing."""
