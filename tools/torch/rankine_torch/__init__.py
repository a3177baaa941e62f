"""Gradients for Rankine: Fisher weights, healing and basis selection in PyTorch, on Rankine folders."""
