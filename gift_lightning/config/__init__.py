"""How a config is read: YAML files that build on others, ``${...}``, class paths, and what is said of bad input."""
