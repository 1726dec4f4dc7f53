"""The commands of the command line, one module each: a shell over the API, and nothing else."""
