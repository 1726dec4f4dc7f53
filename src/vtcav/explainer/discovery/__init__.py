"""Concepts that nobody named, found in the feature maps of images.

`sampling` passes the images once and keeps a few places of each, `parts` factorises these and tests
how stable the parts are, `responses` reads all feature maps again. `discover` does it in order, and
`naming` makes concepts of the bank.
"""
