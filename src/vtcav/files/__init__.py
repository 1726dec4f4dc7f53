"""Files: atomic writes, manifests, hashes, safe names, the cache and the spill file."""
