"""Thin Ray actors around the library: replicas, the scheduler loop, the watchdog."""
