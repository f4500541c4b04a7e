"""The training of MiniMTIL's text-to-image model, and the fidelity of its images to their prompts."""
