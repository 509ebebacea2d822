"""Training and evaluating the network found, in float32 and in int8."""
