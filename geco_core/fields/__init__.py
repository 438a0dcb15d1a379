"""Fields in space: triplane features and the small networks that read them."""
