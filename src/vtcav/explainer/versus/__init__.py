"""Two networks with the same concepts and images: where and how much they differ."""
