"""The configuration: YAML written by people in, frozen values out, every finding with its line."""
