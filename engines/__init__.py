"""TensorRT and TensorRT for RTX engines of a bundle's graphs: building them, what was built, and running them."""
