"""Reading and writing precomputed layers by resolution, and bringing files in."""
