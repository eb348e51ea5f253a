"""One file a dimension; `videodpo.registry.SCORERS` names them."""
