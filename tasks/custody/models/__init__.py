"""The judgement of model files. Nothing here unpickles, or imports a name that a model asks for."""
