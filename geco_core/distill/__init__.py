"""Distillation: score distillation losses, the one-step generator, the fine-tuned chain."""
