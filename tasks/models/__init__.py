"""§4: look at model files in a sandbox. Nothing here judges by itself: the law is in custody.models."""
