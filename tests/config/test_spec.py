"""A run's name."""

from fastat.config.grid import expand, load_config
from fastat.config.spec import RunSpec


def test_a_name_and_its_spec_are_inverse():
    for spec in expand(load_config()):
        assert RunSpec.parse(spec.name) == spec
