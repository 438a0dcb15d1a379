"""Diffusion parts shared by the multi-view models: schedules, samplers, attention, codecs, U-Net
builders.
"""
