"""Forward passes faster than as the network is written: `forward` chooses how they run."""
