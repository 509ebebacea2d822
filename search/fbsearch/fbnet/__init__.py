"""FBNet (CVPR'19), section 3: the supernet, θ and w learned in turn, and the network derived from them."""
