"""INT8 for the pixel networks: ranges observed on real images, Q/DQ graphs, and what they cost in quality."""
