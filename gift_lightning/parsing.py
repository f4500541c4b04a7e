"""Where the parser reads configs otherwise than jsonargparse does by itself.

* YAML is that of ``load_yaml`` and ``dump_yaml``.
* A list replaces the list that stood there before. By itself, a list with as many elements gives each of them the
  ``init_args`` of the old element at its place, if they are of one class.
* ``${run.root}`` means the same in a file, in a base and in a flag: the key ``run.root`` of the whole config.
* Which settings come from variables of the environment is kept, for these may be secrets.
"""

from typing import Any

import yaml
from jsonargparse import Namespace, _core, _typehints, set_dumper, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from gift_lightning.references import References, find_references, resolve
from gift_lightning.yaml_text import dump_yaml, load_yaml

MODE = "omegaconf+"
"""Of the parser: ``${...}`` is replaced after all files and flags are read."""


class ConfigParser(LightningArgumentParser):
    """The parser of Lightning's command line.

    Attributes:
        references: settings of the latest config that come from the environment.
    """

    references: References = {}


_adapt = _typehints.adapt_typehints


def _adapt_anew(val: Any, *args: Any, **kwargs: Any) -> Any:
    """A value made to fit its type, without what stood there before if it is a list, but for ``+=``."""
    if isinstance(val, list) and not kwargs.get("append"):
        kwargs["prev_val"] = None
    return _adapt(val, *args, **kwargs)


def _resolve(parser: ConfigParser, config: Namespace) -> Namespace:
    """Replace each ``${...}`` by its value, as seen from the keys of the command."""
    if "${" not in str(config):
        return config
    config = config.clone(with_meta=False)
    command = config["subcommand"]
    files = config[command].pop("config", None)
    settings = config[command].as_dict()
    parser.references = find_references(settings)
    config[command] = resolve(settings)
    config = parser._apply_actions(config)
    config[command]["config"] = files
    return config


set_loader(MODE, load_yaml, (yaml.YAMLError,))
set_dumper(MODE, dump_yaml)
_typehints.adapt_typehints = _adapt_anew
_core.omegaconf_apply = _resolve
