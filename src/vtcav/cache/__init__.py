"""What is expensive in learning concepts, kept on disk by its content.

`store` is a folder of tensors by key, `place` says which folder, `learned` says what of the passes
over example images is kept there and what it depends on.
"""

from vtcav.cache.place import cache_of, default_folder
from vtcav.cache.store import Cache, CacheWarning, Entry

__all__ = ["Cache", "CacheWarning", "Entry", "cache_of", "default_folder"]
