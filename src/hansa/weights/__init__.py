"""Models and adapters of others as they lie on disk, read tensor by tensor, and plans over them."""
