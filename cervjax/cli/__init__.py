"""The ``cervjax`` command."""
