"""Everything that comes in: references to images, decoding, preprocessing, batches and concepts."""
