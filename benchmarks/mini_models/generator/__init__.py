"""The training of MiniMTIL's text-to-image model, and how well it draws what it is asked for."""
