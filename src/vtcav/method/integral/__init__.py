"""The integral of step 5 taken as finely as each image asks for (`adaptive`).

`intervals` halves the intervals of a `line` whose `mean_gradients` leave doubt: these come from the
`secants` of activations, where the `operations` of the network are known. `doubling` takes plain
gradients at more and more points, equidistant or along a crowded `path`, for any network.
"""
