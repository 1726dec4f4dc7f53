"""Files, all or nothing: atomic writes, manifests, hashes, and the cache of what was learned."""
