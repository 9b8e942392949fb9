"""Local training without gradients: what a client measures along directions, and the trainer that walks along them."""
