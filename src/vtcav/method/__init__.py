"""The method of the paper as functions of tensors.

`cav` has steps 1 and 3, `concept_map` steps 2 to 4, `integral` step 5, `attribution` steps 6 to 9.
`erasure` measures how far a score falls without a concept. `resampling` draws the images of CAVs,
`significance` tests attributions against null CAVs, and `variants` names the alternatives to the
paper's definition (`discriminant_map`).
"""
