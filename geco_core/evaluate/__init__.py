"""Metrics on images and geometry, with their floors."""
