"""Diffusion parts of the multi-view models: schedules, samplers, codecs, U-Net, processors."""
