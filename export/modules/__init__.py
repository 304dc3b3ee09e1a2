"""PyTorch modules: the tokenizers and the dyadic prior."""
