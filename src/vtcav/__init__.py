"""Visual-TCAV."""
