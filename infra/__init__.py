"""Storage, manifests, the output dataset and its commit protocol, telemetry, cluster start."""
