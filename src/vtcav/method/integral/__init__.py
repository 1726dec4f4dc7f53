"""Step 5: integrated gradients at a layer.

- `trapezoid`: the paper's rule, with a fixed number of equidistant steps (`steps=50`).
- `adaptive`: chooses between the two rules below for each network (`steps="adaptive"`).
- `rescale_intervals`: DeepLIFT's rescale rule on a `partition` of the line into few intervals.
  `rescale_gradients` takes its multipliers from a network whose `operations` are known;
  `rescale_functions` are the activations, products and pooling that give them.
- `refined_trapezoid`: successive refinement of the trapezoid rule, for any other network, with
  equidistant or graded points (`alpha_spacing`).

`integrand` states what is integrated. `constants` has every tuned number and the script that
measures it.
"""
