"""One adapter a model family around its diffusers pipeline; `videodpo.registry.MODELS` names them."""
