"""How `fidkit serve` is measured."""
