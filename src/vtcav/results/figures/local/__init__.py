"""The figure of one image, in three layouts: rows, a table, the column of a paper."""
