"""Model files that anyone wrote: what goes in and out, at which shapes, of which nodes, and parts cut out of them."""
