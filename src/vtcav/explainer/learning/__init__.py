"""Learning CAVs from images, steps 1 to 3, in bounded memory."""
