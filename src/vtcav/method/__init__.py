"""The method of the paper, tensors in and tensors out.

`cav` has steps 1 and 3, `concept_map` steps 2 and 4, `integral` step 5, `attribution` steps 6 to 9.
`resampling` and `significance` judge the result; `variants` names alternatives to the definition.
"""
