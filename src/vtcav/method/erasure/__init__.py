"""Erasure: what the network answers when the region of a concept is filled in from around it.

The published attribution asks the gradients how much a concept counts. Erasure lets the concept
map say where, and the network itself say how much, in five steps:

1. A place filter w finds the concept at single locations of the feature maps (`place_filter`).
2. Its response r, between the medians of negatives and examples, is the map M (`place_filter`).
3. The region H is where the mean of the layers' maps exceeds 1/4, without the parts in which these
   layers see another concept (`region`). Where regions overlap, linear discriminant analysis says
   which concept each location shows (`place_classifier`), so that own parts are erased, too.
4. H is filled in from around it (`fill`).
5. The drop is z_t(x) - z_t(filled x), and its share that of z_t(x) - z_t(negatives) (`effect`).
6. By request, the concept's pattern is taken out of the feature maps of single layers as well: a
   second opinion, which tells things in one place apart and finds too little (`concept_part`).

A concept that the filter does not tell from the negatives on held-out images is not seen: it gets
no number. Regions of the same size elsewhere in the image, placebos, say what chance would do.
"""
