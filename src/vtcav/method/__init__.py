"""The method of the paper as functions of tensors.

`cav` has steps 1 and 3, `concept_map` steps 2 and 4, `integral` step 5, `attribution` steps 6 to 9.
`resampling` draws the images of CAVs, `significance` tests attributions against null CAVs, and
`variants` names the alternatives to the paper's definition (`discriminant_map`).
"""
