"""The training of MiniMTIL's models: no module here is needed to use them."""
