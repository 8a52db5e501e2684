"""§4: run collectors, judge models, seal and sign the evidence. Nothing here sends to a store."""
