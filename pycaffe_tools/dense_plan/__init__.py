"""The exact dense form of a patch net, as steps that any engine can run."""
