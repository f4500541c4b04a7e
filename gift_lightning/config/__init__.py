"""How a config is read: YAML files that build on others, ``${...}``, class paths, and the sentences for bad input."""
