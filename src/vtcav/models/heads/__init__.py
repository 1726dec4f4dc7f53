"""The rest of the network after a layer (`resumed`), and how it runs."""
