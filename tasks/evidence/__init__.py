"""§4: collectors run, models judged, the evidence sealed and signed. Nothing here sends to a store."""
