"""Attention modules of transformers, timm and diffusers, small and random, against patterns: results and gradients."""
