"""The judgement of model files. Unpickles nothing, and imports no name that a model asks for."""
