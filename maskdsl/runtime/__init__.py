"""What is called: attention of a compiled mask, on tensors. Everything here may import torch."""
